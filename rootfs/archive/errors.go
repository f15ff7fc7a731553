package archive

import (
	"errors"
	"strings"
)

// The kinds of failure, for errors.Is. The errors that carry them are of type
// *Error and name the URL, the particulars and what to do.
var (
	// ErrSignature: no signature of the Release file is good.
	ErrSignature = errors.New("bad signature")
	// ErrUnknownKey: the Release file is signed, but by no key of the keyring.
	ErrUnknownKey = errors.New("signed by an unknown key")
	// ErrExpired: the Release file's Valid-Until has passed.
	ErrExpired = errors.New("expired")
	// ErrFuture: the Release file's Date lies more than a day ahead.
	ErrFuture = errors.New("dated in the future")
	// ErrSuite: the Release file is that of another suite.
	ErrSuite = errors.New("another suite")
	// ErrRelease: the Release file cannot be understood, or does not have the
	// component or architecture asked for.
	ErrRelease = errors.New("unusable Release file")
	// ErrDigest: a file's size or digest is not the one that was promised.
	ErrDigest = errors.New("wrong digest")
	// ErrNotFound: the archive does not have the file (404, 410, or no such
	// local file).
	ErrNotFound = errors.New("not found")
	// ErrDenied: the server refuses to give the file (401, 403).
	ErrDenied = errors.New("access denied")
	// ErrSilence: the server sent nothing for Client.Silence.
	ErrSilence = errors.New("silence")
	// ErrOffline: the file is not in the cache and Client.Offline is set.
	ErrOffline = errors.New("not in the cache, and offline")
	// ErrUnreachable: the server could not be talked to, or failed to answer
	// properly every time.
	ErrUnreachable = errors.New("unreachable")
)

// An Error says what went wrong with which file, and what to do about it.
type Error struct {
	URL    string // without a password
	Kind   error  // one of the errors above
	Detail string // particulars; may be empty
	Do     string // what the reader can do; may be empty
	Err    error  // the cause, when there is one besides Kind
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.URL)
	b.WriteString(": ")
	b.WriteString(e.Kind.Error())
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(strings.ReplaceAll(e.Err.Error(), "\n", " "))
	}
	if e.Do != "" {
		b.WriteString("; ")
		b.WriteString(e.Do)
	}
	return b.String()
}

// Unwrap makes both the kind and the cause match.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}
