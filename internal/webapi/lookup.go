package webapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mobilecred/mobilecred/internal/credential"
	"github.com/mobilecred/mobilecred/internal/store"
)

// Reader is the part of a store that lookups need. Reads of one item return store.ErrNotFound when it is not there, and
// ListCredentials a *credential.Error with CodeInvalidCursor for a cursor that it did not return; any other error means
// that the store failed.
type Reader interface {
	Stocks
	Outage(ctx context.Context, account string) (credential.Outage, error)
	Profile(ctx context.Context, profileID string) (credential.Profile, error)
	Profiles(ctx context.Context) ([]credential.Profile, error) // by id
	Holder(ctx context.Context, holderID string) (credential.Holder, error)
	Credential(ctx context.Context, holderID, credentialID string) (credential.Credential, error)
	Credentials(ctx context.Context, holderID string) ([]credential.Credential, error)             // oldest first
	History(ctx context.Context, holderID, credentialID string) ([]credential.HistoryEntry, error) // oldest first
	// and the next cursor, empty at the end
	ListCredentials(ctx context.Context, page credential.Page) ([]credential.Credential, string, error)
}

// NewLookup returns the API of the function lookup: every GET. accounts are those that are configured.
func NewLookup(reader Reader, accounts []string, now func() time.Time) Handler {
	l := lookup{reader, accounts}
	const holder = "GET /v1/holders/{holderId}"
	return serve(now, map[string]operation{
		"GET /v1/profiles":                             l.profiles,
		"GET /v1/profiles/{profileId}":                 l.profile,
		holder:                                         l.holder,
		holder + "/credentials":                        l.credentials,
		holder + "/credentials/{credentialId}":         l.credential,
		holder + "/credentials/{credentialId}/history": l.history,
		"GET /v1/credentials":                          l.page,
	})
}

type lookup struct {
	Reader
	accounts []string
}

// standings reads how the accounts of credentials stand.
func (l lookup) standings(
	ctx context.Context, credentials ...credential.Credential,
) (map[string]credential.Standing, error) {
	all := map[string]credential.Standing{}
	for _, c := range credentials {
		if _, known := all[c.Account]; known {
			continue
		}
		outage, err := l.Outage(ctx, c.Account)
		if err != nil {
			return nil, err
		}
		all[c.Account] = credential.Standing{
			Outage: outage, AccountUnknown: !slices.Contains(l.accounts, c.Account),
		}
	}
	return all, nil
}

func (l lookup) profiles(ctx context.Context, _ *call) (answer, error) {
	profiles, err := l.Profiles(ctx)
	if err != nil {
		return answer{}, err
	}
	views := listView[profileView]{Items: make([]profileView, len(profiles))}
	err = each(len(profiles), func(i int) error {
		stock, err := stockOf(ctx, l, profiles[i])
		views.Items[i] = viewProfile(profiles[i], stock)
		return err
	})
	return answer{status: http.StatusOK, body: views}, err
}

func (l lookup) profile(ctx context.Context, c *call) (answer, error) {
	if err := c.existing(); err != nil {
		return answer{}, err
	}
	p, err := l.Profile(ctx, c.profileID)
	if err != nil {
		return answer{}, missing(err, credential.CodeProfileNotFound)
	}
	stock, err := stockOf(ctx, l, p)
	return answer{http.StatusOK, viewProfile(p, stock), etag(p.Revision)}, err
}

func (l lookup) holder(ctx context.Context, c *call) (answer, error) {
	h, err := l.holderInPath(ctx, c)
	if err != nil {
		return answer{}, err
	}
	credentials, err := l.credentialsOf(ctx, h.ID)
	if err != nil {
		return answer{}, err
	}
	view := viewHolder(h)
	views, err := l.views(ctx, credentials, h, c.now)
	view.Credentials = views.Items
	return answer{http.StatusOK, view, etag(h.Revision)}, err
}

// credentialsOf reads the credentials of a holder, without those of a predecessor who was erased.
func (l lookup) credentialsOf(ctx context.Context, holderID string) ([]credential.Credential, error) {
	credentials, err := l.Credentials(ctx, holderID)
	return slices.DeleteFunc(credentials, func(cr credential.Credential) bool { return cr.Erased }), err
}

// credentialInPath reads the credential that the path names, of the holder it names.
func (l lookup) credentialInPath(ctx context.Context, c *call) (credential.Credential, error) {
	cr, err := l.Credential(ctx, c.holderID, c.credentialID)
	if err == nil && cr.Erased {
		err = store.ErrNotFound
	}
	return cr, missing(err, credential.CodeCredentialNotFound)
}

func (l lookup) credentials(ctx context.Context, c *call) (answer, error) {
	h, err := l.holderInPath(ctx, c)
	if err != nil {
		return answer{}, err
	}
	credentials, err := l.credentialsOf(ctx, h.ID)
	if err != nil {
		return answer{}, err
	}
	views, err := l.views(ctx, credentials, h, c.now)
	return answer{status: http.StatusOK, body: views}, err
}

func (l lookup) views(
	ctx context.Context, credentials []credential.Credential, h credential.Holder, now time.Time,
) (listView[credentialView], error) {
	standings, err := l.standings(ctx, credentials...)
	return list(credentials, func(cr credential.Credential) credentialView {
		return viewCredential(cr, h, standings[cr.Account], now)
	}), err
}

func (l lookup) credential(ctx context.Context, c *call) (answer, error) {
	h, err := l.holderInPath(ctx, c)
	if err != nil {
		return answer{}, err
	}
	cr, err := l.credentialInPath(ctx, c)
	if err != nil {
		return answer{}, err
	}
	standings, err := l.standings(ctx, cr)
	return answer{http.StatusOK, viewCredential(cr, h, standings[cr.Account], c.now), etag(cr.Revision)}, err
}

func (l lookup) history(ctx context.Context, c *call) (answer, error) {
	h, err := l.holderInPath(ctx, c)
	if err != nil {
		return answer{}, err
	}
	if _, err := l.credentialInPath(ctx, c); err != nil {
		return answer{}, err
	}
	history, err := l.History(ctx, h.ID, c.credentialID)
	return answer{status: http.StatusOK, body: list(history, viewHistory)}, err
}

func (l lookup) page(ctx context.Context, c *call) (answer, error) {
	page, err := c.page()
	if err != nil {
		return answer{}, err
	}
	if _, err := l.Profile(ctx, page.ProfileID); err != nil {
		return answer{}, missing(err, credential.CodeProfileNotFound)
	}
	// A warning that concerns a whole account is not listed anywhere: it is looked for in each page.
	derived := page.Warning
	if derived.IsListed() {
		derived = ""
	} else {
		page.Warning = ""
	}
	credentials, next, err := l.ListCredentials(ctx, page)
	if err != nil {
		return answer{}, err
	}
	var ids []string
	for _, cr := range credentials {
		ids = append(ids, cr.HolderID)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	// Whether a credential is in step with the provider also depends on its holder. For an erased holder the zero value
	// will do: nothing is pending for one.
	holders := make([]credential.Holder, len(ids))
	err = each(len(ids), func(i int) (err error) {
		if holders[i], err = l.Holder(ctx, ids[i]); errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return answer{}, err
	}
	standings, err := l.standings(ctx, credentials...)
	views := list(credentials, func(cr credential.Credential) credentialView {
		i, _ := slices.BinarySearch(ids, cr.HolderID)
		holder := holders[i]
		if cr.Erased { // the holder of this id is another person by now
			holder = credential.Holder{}
		}
		return viewCredential(cr, holder, standings[cr.Account], c.now)
	})
	if derived != "" {
		views.Items = slices.DeleteFunc(views.Items, func(v credentialView) bool {
			return !slices.ContainsFunc(v.Warnings, func(w warningView) bool { return w.Code == derived })
		})
	}
	views.NextCursor = orNull(next)
	return answer{status: http.StatusOK, body: views}, err
}

// page reads the query of the list. Unknown parameters are refused, since a filter with a typing error would otherwise
// list everything.
func (c *call) page() (credential.Page, error) {
	page := credential.Page{Limit: 50}
	var wrong []credential.FieldError
	note := func(code, detail string) {
		wrong = append(wrong, credential.FieldError{Code: code, Detail: "Query parameter " + detail})
	}
	query := c.req.QueryStringParameters
	if query["profileId"] == "" {
		note("required", "profileId: must be given.")
	}
	for name, value := range query {
		switch name {
		case "profileId":
			if idPattern.MatchString(value) {
				page.ProfileID, c.profileID = value, value
			} else if value != "" {
				note("invalid_format", "profileId: "+idRule)
			}
		case "status":
			if page.Status = credential.Status(value); !slices.Contains(credential.Statuses, page.Status) {
				note("unknown_value", "status: "+oneOf(credential.Statuses...).detail)
			}
		case "warning":
			if page.Warning = credential.WarningCode(value); !slices.Contains(credential.WarningCodes, page.Warning) {
				note("unknown_value", "warning: "+oneOf(credential.WarningCodes...).detail)
			}
		case "limit":
			n, err := strconv.Atoi(value)
			if page.Limit = n; err != nil || n < 1 || n > 100 {
				note("out_of_range", "limit: a number from 1 to 100.")
			}
		case "cursor":
			page.Cursor = value
		default:
			note("unknown_parameter", name+": there are only profileId, status, warning, limit and cursor.")
		}
	}
	slices.SortFunc(wrong, func(a, b credential.FieldError) int { return strings.Compare(a.Detail, b.Detail) })
	return page, invalid(wrong)
}

// holderInPath returns the holder a path names. The credentials of an erased holder stay in the table, but are no
// longer shown.
func (l lookup) holderInPath(ctx context.Context, c *call) (credential.Holder, error) {
	if err := c.existing(); err != nil {
		return credential.Holder{}, err
	}
	h, err := l.Holder(ctx, c.holderID)
	return h, missing(err, credential.CodeHolderNotFound)
}

// missing turns store.ErrNotFound into a refusal.
func missing(err error, code credential.Code) error {
	if errors.Is(err, store.ErrNotFound) {
		return credential.Refuse(code, "")
	}
	return err
}

// each calls f for 0 to n-1, a few at a time, and returns the first error in that order.
func each(n int, f func(i int) error) error {
	const atOnce = 10
	var wg sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	errs := make([]error, n)
	for i := range n {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					errs[i] = panicked(p)
				}
				<-turns
			}()
			errs[i] = f(i)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
