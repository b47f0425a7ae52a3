package template

import (
	"fmt"
	"slices"
	"strings"
)

// Matches says whether an event, decoded from JSON, has what a rule's pattern
// asks for: each named field holds one of the listed values or satisfies one
// of the listed conditions (prefix, anything-but, exists). A field holding a
// list matches when one of its members does.
func Matches(pattern map[string]any, event map[string]any) bool {
	for name, want := range pattern {
		got, present := event[name]
		switch want := want.(type) {
		case map[string]any:
			inner, _ := got.(map[string]any)
			if !Matches(want, inner) {
				return false
			}
		case []any:
			if !slices.ContainsFunc(want, func(c any) bool { return satisfies(c, got, present) }) {
				return false
			}
		}
	}
	return true
}

func satisfies(condition, got any, present bool) bool {
	if c, ok := condition.(map[string]any); ok {
		if exists, ok := c["exists"].(bool); ok {
			// exists is about leaves: an object is not one.
			_, object := got.(map[string]any)
			return exists == (present && !object)
		}
	}
	if !present {
		return false
	}
	if list, ok := got.([]any); ok {
		return slices.ContainsFunc(list, func(member any) bool { return satisfies(condition, member, true) })
	}
	c, ok := condition.(map[string]any)
	if !ok {
		return equal(condition, got)
	}
	if prefix, ok := c["prefix"].(string); ok {
		s, isText := got.(string)
		return isText && strings.HasPrefix(s, prefix)
	}
	switch not := c["anything-but"].(type) {
	case []any:
		return !slices.ContainsFunc(not, func(v any) bool { return equal(v, got) })
	case map[string]any:
		return !satisfies(not, got, true)
	default:
		return !equal(not, got)
	}
}

// equal compares scalars; YAML reads whole numbers as int, JSON as float64.
func equal(a, b any) bool {
	if n, ok := a.(int); ok {
		a = float64(n)
	}
	switch b.(type) {
	case map[string]any, []any:
		return false
	}
	return a == b
}

// checkPattern refuses what Matches does not understand.
func checkPattern(p map[string]any) error {
	if len(p) == 0 {
		return fmt.Errorf("an empty pattern is not interpreted")
	}
	for name, want := range p {
		switch want := want.(type) {
		case map[string]any:
			if strings.HasPrefix(name, "$") {
				return fmt.Errorf("%s is not interpreted", name)
			}
			if err := checkPattern(want); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		case []any:
			if strings.HasPrefix(name, "$") {
				return fmt.Errorf("%s is not interpreted", name)
			}
			for _, c := range want {
				if err := checkCondition(c); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		default:
			return fmt.Errorf("%s: a list of values is needed", name)
		}
	}
	return nil
}

func checkCondition(c any) error {
	m, ok := c.(map[string]any)
	if !ok {
		return nil
	}
	if len(m) == 1 {
		for kind, v := range m {
			switch v := v.(type) {
			case string:
				if kind == "prefix" || kind == "anything-but" {
					return nil
				}
			case bool:
				if kind == "exists" {
					return nil
				}
			case int, float64, []any:
				if kind == "anything-but" {
					return nil
				}
			case map[string]any:
				if _, ok := v["prefix"].(string); ok && kind == "anything-but" && len(v) == 1 {
					return nil
				}
			}
		}
	}
	return fmt.Errorf("condition %v is not interpreted, only values, prefix, anything-but and exists", m)
}
