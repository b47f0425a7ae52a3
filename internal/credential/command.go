package credential

// Request is what every command knows of the call that carries it.
type Request struct {
	Actor Actor
	// Route and Key identify a request with an Idempotency-Key, PayloadHash its body; Key is empty without one.
	Route       string
	Key         string
	PayloadHash string
}

// PutProfile creates or replaces a profile. IfRevision is zero without an If-Match; IfNew says that it creates only
// (If-None-Match: *).
type PutProfile struct {
	Request
	Profile    Profile
	IfRevision int64
	IfNew      bool
}

// PutHolder creates or replaces a holder. Only the fields the portal describes are read. IfRevision and IfNew are as in
// PutProfile.
type PutHolder struct {
	Request
	Holder     Holder
	IfRevision int64
	IfNew      bool
}

// PatchHolder changes parts of a holder that exists. Patch says how: it gets the holder as it is stored and returns it
// as the portal describes it now, or a refusal. It is called again when another request was faster, so it must not
// remember anything. IfRevision is zero without an If-Match.
type PatchHolder struct {
	Request
	HolderID   string
	Patch      func(stored Holder) (Holder, error)
	IfRevision int64
}

// Assign gives a holder a new credential. ProfileID may be empty when there is exactly one profile (R2); Holder, when
// given, is stored in the same call.
type Assign struct {
	Request
	HolderID  string
	ProfileID string
	Holder    *Holder
	// IfNone refuses the assignment with CodeAlreadyAssigned when the holder has a live credential of the profile.
	IfNone bool
	// Wait has the credential wait for a mobile ID when the provider has none left.
	Wait bool
}

// EndReason is why an operator ends a credential.
type EndReason string

// Reasons of Revoke and Replace. Upgrade is for Replace only.
const (
	EndDeleted EndReason = "deleted"
	EndLost    EndReason = "lost"
	EndStolen  EndReason = "stolen"
	EndUpgrade EndReason = "upgrade"
)

// End ends a credential: delete, lost or stolen.
type End struct {
	Request
	HolderID     string
	CredentialID string
	Reason       EndReason
}

// Replace issues a new credential in place of one.
type Replace struct {
	Request
	HolderID     string
	CredentialID string
	Reason       EndReason // lost, stolen or upgrade
}

// Resend mails the invitation again.
type Resend struct {
	Request
	HolderID     string
	CredentialID string
}

// Result is a credential after a command. Unchanged says that the command found done what it asks for. Replayed says
// that the command had been carried out before under the same key.
type Result struct {
	Credential Credential
	Holder     Holder
	Standing   Standing
	Replayed   bool
	Unchanged  bool
}
