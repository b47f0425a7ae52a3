package webapi

import (
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
)

// The JSON of answers. A field that the portal may describe is an empty text when it did not; a field that becomes
// known later is null until then.

// utc brings a time into the form of all answers: UTC, in whole milliseconds.
func utc(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

func utcOrNull(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := utc(*t)
	return &u
}

// orNull is null for the zero value.
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

type listView[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"nextCursor"`
}

func list[T, V any](items []T, view func(T) V) listView[V] {
	l := listView[V]{Items: make([]V, len(items))}
	for i, item := range items {
		l.Items[i] = view(item)
	}
	return l
}

type stockView struct {
	Available int       `json:"available"`
	AsOf      time.Time `json:"asOf"`
}

type profileView struct {
	ID             string            `json:"id"`
	Name           string            `json:"name"`
	Description    string            `json:"description"`
	Account        string            `json:"account"`
	PartNumber     string            `json:"partNumber"`
	App            credential.App    `json:"app"`
	InvitationDays int               `json:"invitationDays"`
	Locale         string            `json:"locale"`
	TimeZone       string            `json:"timeZone"`
	Sender         credential.Sender `json:"sender"`
	LowStock       int               `json:"lowStock"`
	Retired        bool              `json:"retired"`
	Stock          *stockView        `json:"stock"`
}

func viewProfile(p credential.Profile, stock *credential.Stock) profileView {
	v := profileView{
		ID: p.ID, Name: p.Name, Description: p.Description, Account: p.Account, PartNumber: p.PartNumber, App: p.App,
		InvitationDays: p.InvitationDays, Locale: p.Locale, TimeZone: p.TimeZone, Sender: p.Sender,
		LowStock: p.LowStock, Retired: p.Retired,
	}
	if stock != nil {
		v.Stock = &stockView{stock.Available, utc(stock.AsOf)}
	}
	return v
}

type holderView struct {
	ID          string                `json:"id"`
	Kind        credential.HolderKind `json:"kind"`
	FirstName   string                `json:"firstName"`
	LastName    string                `json:"lastName"`
	Email       string                `json:"email"`
	Locale      string                `json:"locale"`
	TimeZone    string                `json:"timeZone"`
	ValidUntil  *time.Time            `json:"validUntil"`
	HasPicture  bool                  `json:"hasPicture"`
	Erasing     bool                  `json:"erasing,omitempty"`
	Credentials []credentialView      `json:"credentials,omitzero"` // in GET of the holder only, there also when empty
}

func viewHolder(h credential.Holder) holderView {
	return holderView{
		ID: h.ID, Kind: h.Kind, FirstName: h.FirstName, LastName: h.LastName, Email: h.Email, Locale: h.Locale,
		TimeZone:   h.TimeZone,
		ValidUntil: utcOrNull(h.ValidUntil), HasPicture: h.PictureHash != "", Erasing: h.Erasing,
	}
}

type erasingView struct {
	ID      string `json:"id"`
	Erasing bool   `json:"erasing"`
}

type cardView struct {
	Number       string  `json:"number"`
	Format       *string `json:"format"`
	FacilityCode *string `json:"facilityCode"`
}

type invitationView struct {
	Status    credential.InvitationStatus `json:"status"`
	CodeHint  *string                     `json:"codeHint"`
	SentTo    *string                     `json:"sentTo"`
	SentAt    *time.Time                  `json:"sentAt"`
	ExpiresAt *time.Time                  `json:"expiresAt"`
	Mails     int                         `json:"mails"`
}

type deviceView struct {
	ID       string  `json:"id"`
	Model    *string `json:"model"`
	Platform *string `json:"platform"`
}

type providerView struct {
	Account   string               `json:"account"`
	State     credential.SyncState `json:"state"`
	LastError *string              `json:"lastError"`
}

type warningView struct {
	Code   credential.WarningCode `json:"code"`
	Since  time.Time              `json:"since"`
	Detail *string                `json:"detail"`
}

type credentialView struct {
	ID           string            `json:"id"`
	HolderID     string            `json:"holderId"`
	ProfileID    string            `json:"profileId"`
	Name         string            `json:"name"`
	Status       credential.Status `json:"status"`
	StatusReason *string           `json:"statusReason"`
	Stage        *credential.Stage `json:"stage"`
	MobileID     *string           `json:"mobileId"`
	Card         *cardView         `json:"card"`
	Invitation   invitationView    `json:"invitation"`
	Device       *deviceView       `json:"device"`
	ActivatedAt  *time.Time        `json:"activatedAt"`
	Provider     providerView      `json:"provider"`
	Warnings     []warningView     `json:"warnings"`
	Replaces     *string           `json:"replaces"`
	ReplacedBy   *string           `json:"replacedBy"`
	CreatedAt    time.Time         `json:"createdAt"`
	UpdatedAt    time.Time         `json:"updatedAt"`
	Revision     int64             `json:"revision"`
}

func viewCredential(
	c credential.Credential, h credential.Holder, standing credential.Standing, now time.Time,
) credentialView {
	state, lastError := credential.Sync(c, h, now)
	if lastError == "" && state != credential.SyncSynced && standing.Outage.IsOpen() {
		lastError = standing.Outage.Reason // what waits for the account alone was never tried
	}
	v := credentialView{
		ID: c.ID, HolderID: c.HolderID, ProfileID: c.ProfileID, Name: c.Name(),
		Status: c.Status, StatusReason: orNull(c.Reason), Stage: orNull(c.Stage),
		Invitation: invitationView{
			Status: c.Invitation.Status, CodeHint: orNull(c.Invitation.CodeHint), SentTo: orNull(c.Invitation.SentTo),
			SentAt: utcOrNull(c.Invitation.SentAt), ExpiresAt: utcOrNull(c.Deadline(h)),
			Mails: c.Invitation.Mails,
		},
		ActivatedAt: utcOrNull(c.ActivatedAt),
		Provider:    providerView{c.Account, state, orNull(lastError)},
		Warnings:    []warningView{},
		Replaces:    orNull(c.Replaces), ReplacedBy: orNull(c.ReplacedBy),
		CreatedAt: utc(c.CreatedAt), UpdatedAt: utc(c.UpdatedAt), Revision: c.Revision,
	}
	for _, w := range credential.Warnings(c, h, standing, now) {
		v.Warnings = append(v.Warnings, warningView{w.Code, utc(w.Since), orNull(w.Detail)})
	}
	if m := c.Mobile; m != nil {
		v.MobileID = &m.ID
		v.Card = &cardView{m.Number, orNull(m.Format), orNull(m.FacilityCode)}
	}
	if d := c.Device; d != nil {
		v.Device = &deviceView{d.ID, orNull(d.Model), orNull(d.Platform)}
	}
	return v
}

type actorView struct {
	Type    credential.ActorType `json:"type"`
	ID      *string              `json:"id"`
	Claimed *string              `json:"claimed"`
}

type historyView struct {
	ID       string               `json:"id"`
	At       time.Time            `json:"at"`
	Event    credential.EventKind `json:"event"`
	From     *string              `json:"from"`
	To       string               `json:"to"`
	Reason   *string              `json:"reason"`
	Actor    actorView            `json:"actor"`
	Anomaly  bool                 `json:"anomaly"`
	Late     bool                 `json:"late"`
	Revision int64                `json:"revision"`
}

func viewHistory(e credential.HistoryEntry) historyView {
	return historyView{
		ID: e.ID, At: utc(e.At), Event: e.Event, From: orNull(e.From), To: e.To, Reason: orNull(e.Reason),
		Actor:   actorView{e.Actor.Type, orNull(e.Actor.ID), orNull(e.Actor.Claimed)},
		Anomaly: e.Anomaly, Late: e.Late, Revision: e.Revision,
	}
}
