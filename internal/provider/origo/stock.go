package origo

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/mobilecred/mobilecred/internal/provider"
)

type part struct {
	ID          id                         `json:"id"`
	Meta        meta                       `json:"meta"`
	PartNumber  string                     `json:"partNumber"`
	Available   *int                       `json:"availableQty"`
	Programming map[string]json.RawMessage `json:"programmingData"`
}

func (p part) id() string { return userAnswer{ID: p.ID, Meta: p.Meta}.id() }

// format returns what is printed on every card of the part number. Clients have seen both "facility code" and names
// without a space.
func (p part) format() (format, facilityCode string) {
	for key, raw := range p.Programming {
		var value id // a number or a string
		if value.UnmarshalJSON(raw) != nil {
			continue
		}
		switch strings.NewReplacer(" ", "", "_", "").Replace(strings.ToLower(key)) {
		case "formatnumber":
			format = string(value)
		case "facilitycode":
			facilityCode = string(value)
		}
	}
	return format, facilityCode
}

// parts is a list of part numbers, or a single one: clients have seen one as the object itself and wrapped in a list
// named by its URN, and a list of them both under that name and as SCIM's Resources, where it may have nothing but
// locations.
type parts []part

// UnmarshalJSON implements json.Unmarshaler.
func (p *parts) UnmarshalJSON(data []byte) error {
	var answer struct {
		part
		Wrapped   []part `json:"urn:hid:scim:api:ma:2.2:PartNumber"`
		Resources []part `json:"Resources"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return err
	}
	*p = append(answer.Wrapped, answer.Resources...)
	if answer.PartNumber != "" {
		*p = append(*p, answer.part)
	}
	return nil
}

// part returns a part number as it was first read. Use it only for what never changes: its id and its format.
// ErrNotFound: the account has none of that name.
func (c *Client) part(ctx context.Context, partNumber string) (part, error) {
	c.mu.Lock()
	known, ok := c.parts[partNumber]
	c.mu.Unlock()
	if ok {
		return known, nil
	}
	var list parts
	if err := c.do(ctx, c.management("stock", http.MethodGet, "part-number"), &list); err != nil {
		return part{}, distrustNotFound(err, true)
	}
	for _, p := range list {
		if p.PartNumber == "" {
			var err error
			if p, err = c.readPart(ctx, p.id()); err != nil {
				return part{}, err
			}
		}
		c.mu.Lock()
		c.parts[p.PartNumber] = p
		c.mu.Unlock()
		if p.PartNumber == partNumber {
			return p, nil
		}
	}
	return part{}, failed("stock", "no such part number", provider.ErrNotFound)
}

func (c *Client) readPart(ctx context.Context, id string) (part, error) {
	if !usable(id) {
		return part{}, failed("stock", "malformed answer", provider.ErrUnavailable)
	}
	var answer parts
	if err := c.do(ctx, c.management("stock", http.MethodGet, "part-number", id), &answer); err != nil {
		return part{}, err
	}
	if len(answer) != 1 || answer[0].PartNumber == "" || answer[0].Available == nil {
		return part{}, failed("stock", "malformed answer", provider.ErrUnavailable)
	}
	return answer[0], nil
}

// Stock reads how many mobile IDs a part number has left. ErrNotFound: the account has no part number of that name.
func (c *Client) Stock(ctx context.Context, partNumber string) (provider.Stock, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.stock(ctx, partNumber)
}

func (c *Client) stock(ctx context.Context, partNumber string) (provider.Stock, error) {
	known, err := c.part(ctx, partNumber)
	if err != nil {
		return provider.Stock{}, err
	}
	now, err := c.readPart(ctx, known.id())
	if err == nil && now.PartNumber != partNumber {
		err = failed("stock", "malformed answer", provider.ErrUnavailable)
	}
	if errors.Is(err, provider.ErrNotFound) {
		c.mu.Lock()
		delete(c.parts, partNumber)
		c.mu.Unlock()
	}
	if err != nil {
		return provider.Stock{}, err
	}
	format, facilityCode := now.format()
	return provider.Stock{PartNumber: partNumber, Available: *now.Available, Format: format,
		FacilityCode: facilityCode}, nil
}
