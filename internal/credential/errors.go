package credential

// Code is the kind of an error, from a closed set; the wording towards people is made once, where it leaves.
type Code string

// The codes. CodeInternal stands for everything a caller cannot do anything about.
const (
	CodeHolderNotFound       Code = "holder_not_found"
	CodeProfileNotFound      Code = "profile_not_found"
	CodeCredentialNotFound   Code = "credential_not_found"
	CodeInvalidState         Code = "invalid_state"
	CodeImmutable            Code = "immutable"
	CodePartNumberInUse      Code = "part_number_in_use"
	CodeNoLicenceLeft        Code = "no_licence_left"
	CodeEmailInUse           Code = "email_in_use_at_provider"
	CodeHolderBeingErased    Code = "holder_being_erased"
	CodeRevisionMismatch     Code = "revision_mismatch"
	CodeReplacementPending   Code = "replacement_pending"
	CodeAlreadyAssigned      Code = "already_assigned"
	CodeValidationFailed     Code = "validation_failed"
	CodeProfileRequired      Code = "profile_required"
	CodeIdempotencyKeyReused Code = "idempotency_key_reused"
	CodeInvalidCursor        Code = "invalid_cursor"
	CodeTooSoon              Code = "too_soon"
	CodeTryLater             Code = "try_later"
	CodeInternal             Code = "internal"
)

// FieldError is what is wrong with one field. Pointer is a JSON pointer into the request's body; Detail is for people.
type FieldError struct {
	Pointer string
	Code    string
	Detail  string
}

// Error is a refusal a caller can act on.
type Error struct {
	Code   Code
	Detail string // one sentence, without personal data or secrets
	Fields []FieldError
	// CredentialID names the failed credential of CodeNoLicenceLeft and CodeEmailInUse, the new one of
	// CodeReplacementPending, and the live one of CodeAlreadyAssigned.
	CredentialID string
	// RetryAfter in seconds, for CodeTooSoon and CodeTryLater.
	RetryAfter int
	// Replayed says that this was the outcome of an earlier request with the same Idempotency-Key.
	Replayed bool
}

// Error implements error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Detail }

// Is makes errors.Is compare codes.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Errorf would invite personal data into details; so refusals are built from a code and a fixed sentence.

// Refuse returns an Error with a code and a sentence.
func Refuse(code Code, detail string) *Error { return &Error{Code: code, Detail: detail} }

// Invalid returns a CodeValidationFailed for the given fields.
func Invalid(fields ...FieldError) *Error {
	return &Error{
		Code:   CodeValidationFailed,
		Detail: "The request has fields that are missing or wrong.",
		Fields: fields,
	}
}
