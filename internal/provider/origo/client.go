package origo

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/provider"
)

// FindUser returns the user of a person. It searches by e-mail and, where HID allows it, also by externalId, because a
// person's e-mail may have changed after the user was created. ErrNotFound: there is none. ErrEmailInUse: another user
// has the e-mail.
func (c *Client) FindUser(ctx context.Context, person provider.Person) (provider.User, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ids, err := c.search(ctx, "emails", person.Email)
	if err != nil {
		return provider.User{}, err
	}
	taken := false
	for _, id := range ids {
		user, err := c.readUser(ctx, id)
		switch {
		case errors.Is(err, provider.ErrNotFound): // deleted since
		case err != nil:
			return provider.User{}, err
		case user.ExternalID == person.ExternalID:
			return user, nil
		default:
			taken = true
		}
	}
	if user, err := c.findByExternalID(ctx, person.ExternalID); !errors.Is(err, provider.ErrNotFound) {
		return user, err
	}
	if taken {
		return provider.User{}, failed("search", "another user", provider.ErrEmailInUse)
	}
	return provider.User{}, failed("search", "no user", provider.ErrNotFound)
}

// FindUsers returns all users of a person, the one with the smallest id first; HID may make a second one with an e-mail
// that is taken, though clients of it expect 409. None is no error.
func (c *Client) FindUsers(ctx context.Context, person provider.Person) ([]provider.User, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ids, err := c.search(ctx, "emails", person.Email)
	if err != nil {
		return nil, err
	}
	var users []provider.User
	for _, id := range ids {
		user, err := c.readUser(ctx, id)
		if errors.Is(err, provider.ErrNotFound) { // deleted since
			continue
		}
		if err != nil {
			return nil, err
		}
		if user.ExternalID == person.ExternalID {
			users = append(users, user)
		}
	}
	user, err := c.findByExternalID(ctx, person.ExternalID)
	if errors.Is(err, provider.ErrNotFound) {
		return users, nil
	}
	isKnown := slices.ContainsFunc(users, func(known provider.User) bool { return known.ID == user.ID })
	if err == nil && !isKnown {
		users = append(users, user)
	}
	return users, err
}

// findByExternalID searches by externalId, which only some accounts can do. Once HID has refused, it does not ask
// again.
func (c *Client) findByExternalID(ctx context.Context, externalID string) (provider.User, error) {
	none := failed("search", "no user", provider.ErrNotFound)
	c.mu.Lock()
	refused := c.noExternalIDs
	c.mu.Unlock()
	if refused {
		return provider.User{}, none
	}
	ids, err := c.search(ctx, "externalId", externalID)
	if errors.Is(err, provider.ErrRefused) {
		c.mu.Lock()
		c.noExternalIDs = true
		c.mu.Unlock()
		return provider.User{}, none
	}
	if err != nil {
		return provider.User{}, err
	}
	if len(ids) != 1 { // more than one: HID has ignored the filter and listed all users
		return provider.User{}, none
	}
	user, err := c.readUser(ctx, ids[0])
	if err == nil && user.ExternalID != externalID {
		err = none
	}
	if err != nil {
		return provider.User{}, err
	}
	return user, nil
}

// search returns the ids of the users whose attribute has a value.
func (c *Client) search(ctx context.Context, attribute, value string) ([]string, error) {
	var literal strings.Builder
	e := json.NewEncoder(&literal) // a filter's strings are JSON's
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, failed("search", "request", provider.ErrRefused)
	}
	var answer struct {
		Resources []struct {
			ID   id   `json:"id"`
			Meta meta `json:"meta"`
		} `json:"Resources"`
	}
	err := c.do(ctx, c.management("search", http.MethodPost, "users", ".search").withBody(struct {
		Schemas    []string `json:"schemas"`
		Filter     string   `json:"filter"`
		StartIndex int      `json:"startIndex"`
		Count      int      `json:"count"`
	}{[]string{"urn:ietf:params:scim:api:messages:2.0:SearchRequest"}, attribute + " eq " +
		strings.TrimSpace(literal.String()), 1, 20}), &answer)
	if err != nil {
		return nil, distrustNotFound(err, true)
	}
	var ids []string
	for _, hit := range answer.Resources {
		user := userAnswer{ID: hit.ID, Meta: hit.Meta}.id()
		if user == "" {
			return nil, failed("search", "malformed answer", provider.ErrUnavailable)
		}
		ids = append(ids, user)
	}
	return ids, nil
}

// User reads a user. ErrNotFound: deleted.
func (c *Client) User(ctx context.Context, userID string) (provider.User, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.readUser(ctx, userID)
}

func (c *Client) readUser(ctx context.Context, userID string) (provider.User, error) {
	if !usable(userID) {
		return provider.User{}, failed("read", "no id", provider.ErrNotFound)
	}
	var answer userAnswer
	if err := c.do(ctx, c.management("read", http.MethodGet, "users", userID), &answer); err != nil {
		return provider.User{}, distrustNotFound(err, false)
	}
	if answer.id() != userID {
		return provider.User{}, failed("read", "malformed answer", provider.ErrUnavailable)
	}
	return answer.neutral(), nil
}

// distrustNotFound turns a 404 into ErrUnavailable unless it is certain that HID itself sent it about one record.
// "Deleted" ends every credential of a user, and a gateway in front of HID may answer 404 too. The 404 of a collection
// is never believed: a collection may be empty, but not missing.
func distrustNotFound(err error, collection bool) error {
	var r *refusal
	if errors.As(err, &r) && r.kind == provider.ErrNotFound && (collection || !r.scim) {
		r.kind = provider.ErrUnavailable
	}
	return err
}

// Reserve creates an invitation with a reserved mobile ID, and the user in the same call when userID is empty.
// ErrEmpty, ErrEmailInUse, ErrRefused (also for a part number the account does not have), ErrOverLimit and ErrNotFound
// (no such user): nothing was reserved.
//
// The part number is looked up before, once per client, so that no other call is needed after the reservation is made.
func (c *Client) Reserve(ctx context.Context, userID string, person provider.Person,
	partNumber string) (credential.Reserved, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	const op = "reserve"
	part, err := c.part(ctx, partNumber)
	if errors.Is(err, provider.ErrNotFound) {
		err = failed(op, "no such part number", provider.ErrRefused)
	}
	if err != nil {
		return credential.Reserved{}, err
	}
	act := &action{CreateInvitationCode: "Y", SendInvitationEmail: "N", AssignCredential: "Y", PartNumber: partNumber}
	k := c.management(op, http.MethodPost, "users")
	body := personBody(person)
	body.Schemas, body.Action = []string{urn + "UserAction", coreUser}, act
	if userID != "" {
		if !usable(userID) {
			return credential.Reserved{}, failed(op, "no id", provider.ErrNotFound)
		}
		k = c.management(op, http.MethodPost, "users", userID, "invitation")
		body = userRequest{Schemas: []string{urn + "UserAction"}, Action: act, Meta: body.Meta}
	}
	var answer userAnswer
	if err := c.do(ctx, k.withBody(body), &answer); err != nil {
		return credential.Reserved{}, c.refusalKind(ctx, err, userID == "", partNumber)
	}
	if userID == "" {
		userID = answer.id()
	}
	if userID == "" || len(answer.Invitations) != 1 || len(answer.Credentials) != 1 {
		return credential.Reserved{}, failed(op, "malformed answer", provider.ErrUnavailable)
	}
	inv, cred := answer.Invitations[0], answer.Credentials[0]
	mobile := cred.mobileID()
	if inv.ID == "" || inv.Code == "" || cred.ID == "" || mobile.ID == "" {
		return credential.Reserved{}, failed(op, "malformed answer", provider.ErrUnavailable)
	}
	mobile.Format, mobile.FacilityCode = part.format()
	return credential.Reserved{UserID: userID, InvitationRef: string(inv.ID), CredentialRef: string(cred.ID),
		Mobile: &mobile, Code: inv.Code,
		ExpiresAt: inv.Expires.pointer()}, nil
}

// refusalKind finds out why a reservation was refused. An unclear 4xx means an empty pool if the stock is read as
// empty.
func (c *Client) refusalKind(ctx context.Context, err error, creating bool, partNumber string) error {
	var r *refusal
	if !errors.As(err, &r) || r.kind != provider.ErrRefused {
		return err
	}
	if r.noneIsLeft {
		r.kind = provider.ErrEmpty
	} else if creating && r.duplicate {
		r.kind = provider.ErrEmailInUse
	} else if stock, err := c.stock(ctx, partNumber); err == nil && stock.Available == 0 {
		r.kind = provider.ErrEmpty
	}
	return r
}

// Cancel cancels an invitation. ErrNotFound: there is none. ErrRefused: it cannot be cancelled, because it was
// accepted, for example. HID may also answer that with success, and cancelling may or may not free the reserved mobile
// ID: only reading the user afterwards tells.
func (c *Client) Cancel(ctx context.Context, invitationRef string) error {
	return c.remove(ctx, "cancel", "invitation", invitationRef)
}

// Revoke begins to take a credential from its device, or frees a reserved one. HID answers 412 to a revocation that is
// under way already, says a public client of v1.0. ErrNotFound: there is none.
func (c *Client) Revoke(ctx context.Context, credentialRef string) error {
	err := c.remove(ctx, "revoke", "credential", credentialRef)
	var r *refusal
	if errors.As(err, &r) && r.status == http.StatusPreconditionFailed {
		return nil
	}
	return err
}

// DeleteUser removes a user with everything it has. ErrNotFound: there is none.
func (c *Client) DeleteUser(ctx context.Context, userID string) error {
	return c.remove(ctx, "delete user", "users", userID)
}

// RemovePhoto makes the user's badges show no picture. ErrNotFound: there is none.
func (c *Client) RemovePhoto(ctx context.Context, userID, photoRef string) error {
	return c.remove(ctx, "photo", "users", userID, "photo", photoRef)
}

func (c *Client) remove(ctx context.Context, op string, path ...string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, p := range path {
		if !usable(p) { // an empty one would name the whole collection
			return failed(op, "no id", provider.ErrNotFound)
		}
	}
	return c.do(ctx, c.management(op, http.MethodDelete, path...), nil)
}

// UpdateUser replaces what HID knows about a user's person. ErrNotFound: deleted. ErrEmailInUse: another user has the
// e-mail.
func (c *Client) UpdateUser(ctx context.Context, userID string, person provider.Person) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	const op = "update"
	if !usable(userID) {
		return failed(op, "no id", provider.ErrNotFound)
	}
	err := c.do(ctx, c.management(op, http.MethodPut, "users", userID).withBody(personBody(person)), nil)
	var r *refusal
	if errors.As(err, &r) && r.kind == provider.ErrRefused && r.duplicate {
		r.kind = provider.ErrEmailInUse
	}
	return err
}

// SetPhoto uploads a picture, approves it, without which HID does not show it, and returns its reference. ErrNotFound:
// the user was deleted. ErrRefused: the picture is not accepted.
func (c *Client) SetPhoto(ctx context.Context, userID string, picture credential.Picture) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	const op = "photo"
	kind, known := map[string]string{"image/jpeg": "jpeg", "image/png": "png"}[picture.ContentType]
	if !known {
		return "", failed(op, "neither JPEG nor PNG", provider.ErrRefused)
	}
	if !usable(userID) {
		return "", failed(op, "no id", provider.ErrNotFound)
	}
	upload := c.management(op, http.MethodPost, "users", userID, "photo")
	upload.body, upload.contentType = picture.Data, mediaType+"+"+kind
	// HID does not document where the answer holds the new id, so it is looked for in every place where other answers
	// have one.
	type photo struct {
		ID   id   `json:"id"`
		Meta meta `json:"meta"`
	}
	var answer struct {
		photo
		Wrapped []photo `json:"urn:hid:scim:api:ma:2.2:User:Photo"`
	}
	if err := c.do(ctx, upload, &answer); err != nil {
		return "", err
	}
	for _, p := range append(answer.Wrapped, answer.photo) {
		ref := userAnswer{ID: p.ID, Meta: p.Meta}.id()
		if ref == "" {
			continue
		}
		approve := c.management(op, http.MethodPut, "users", userID, "photo", ref, "status")
		return ref, c.do(ctx, approve.withBody(struct {
			Status string `json:"status"`
		}{"APPROVE"}), nil)
	}
	return "", failed(op, "malformed answer", provider.ErrUnavailable)
}
