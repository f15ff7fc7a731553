package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// The kinds of failure, for errors.Is. The errors that carry them are of type
// *Error and name the registry, the image, the particulars and what to do.
var (
	// ErrName: the text is no image's name.
	ErrName = errors.New("not the name of an image")
	// ErrNotFound: the registry does not have the image, or a part of it.
	ErrNotFound = errors.New("not found")
	// ErrUnauthorized: the registry refuses to give the image.
	ErrUnauthorized = errors.New("access denied")
	// ErrPlatform: the image is not for the platform asked for.
	ErrPlatform = errors.New("image for another platform")
	// ErrDigest: what came has another size or digest than was promised.
	ErrDigest = errors.New("wrong digest")
	// ErrTimeout: nothing came for Client.Stall, or a small answer took longer
	// than Client.Limit.
	ErrTimeout = errors.New("no answer in time")
	// ErrUnreachable: the registry could not be talked to, or failed to answer
	// properly every time.
	ErrUnreachable = errors.New("unreachable")
	// ErrPlainHTTP: the registry speaks plain HTTP and is not allowed to.
	ErrPlainHTTP = errors.New("plain HTTP is not allowed")
	// ErrBlocked: registries.conf forbids the registry.
	ErrBlocked = errors.New("blocked by registries.conf")
	// ErrOffline: something is not in the store and Client.Offline is set.
	ErrOffline = errors.New("not in the store, and offline")
	// ErrConfig: a file of mirrors or credentials cannot be understood.
	ErrConfig = errors.New("cannot be understood")
)

// An Error says what went wrong with which image, where, and what to do about
// it. It never holds a credential, nor text that a registry chose.
type Error struct {
	Image    string // as the recipe has it, or a file's name
	Registry string // host, with port; may be empty
	Kind     error  // one of the errors above, or of package containers
	Detail   string // particulars; may be empty
	Do       string // what the reader can do; may be empty
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Image)
	if e.Registry != "" {
		b.WriteString(": registry ")
		b.WriteString(e.Registry)
	}
	b.WriteString(": ")
	b.WriteString(e.Kind.Error())
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	if e.Do != "" {
		b.WriteString("; ")
		b.WriteString(e.Do)
	}
	return strings.ReplaceAll(b.String(), "\n", " ")
}

func (e *Error) Unwrap() error { return e.Kind }

// A failure is one attempt that did not work.
type failure struct {
	err     *Error
	retry   bool          // another attempt may work
	restart bool          // and must begin with the first byte
	resumed bool          // bytes of an earlier attempt may be to blame
	after   time.Duration // the registry's Retry-After
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// statusFailure turns an answer that brings nothing into its failure.
func (v *view) statusFailure(code int, header http.Header) *failure {
	e := &Error{Image: v.image, Registry: v.host(), Detail: "it answers " + httpStatus(code)}
	f := &failure{err: e}
	switch {
	case code == http.StatusNotFound, code == http.StatusGone:
		e.Kind, e.Do = ErrNotFound, "check the name, the tag and the registry"
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		e.Kind = ErrUnauthorized
		e.Do = "log in with podman login or docker login, or check the name: many registries say this of images that do not exist"
		if v.anonymous() {
			e.Detail += ", and no credentials are known for it"
		}
	case code == http.StatusProxyAuthRequired:
		e.Kind, e.Do = ErrUnauthorized, "check the proxy and its password"
	case code == http.StatusRequestedRangeNotSatisfiable:
		e.Kind, f.retry, f.restart = ErrUnreachable, true, true
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500 && code != http.StatusNotImplemented:
		e.Kind, e.Do, f.retry = ErrUnreachable, "try again later, or name a mirror", true
		f.after = retryAfter(header)
		if f.after > maxRetryAfter {
			f.retry = false
			e.Detail += " and asks to wait " + f.after.String()
		}
	default:
		e.Kind, e.Do = ErrUnreachable, "check the name of the registry"
	}
	return f
}

func httpStatus(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// broken classifies an error of a request or of an answer's body. What the
// error says is used only where it is known to hold no part of a URL, a header
// or an answer.
func (v *view) broken(ctx context.Context, err error) error {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	e := &Error{Image: v.image, Registry: v.host(), Kind: ErrUnreachable, Do: "check the network, the proxy and the registry's name"}
	f = &failure{err: e, retry: true}
	if cause := context.Cause(ctx); cause != nil {
		var late *lateError
		if !errors.As(cause, &late) {
			return cause
		}
		e.Kind, e.Detail, e.Do = ErrTimeout, late.Error(), "try again later, or name a mirror"
		return f
	}
	var answer *transport.Error
	var own *Error
	switch {
	case errors.As(err, &answer):
		f = v.statusFailure(answer.StatusCode, nil)
		if f.err.Kind == ErrUnauthorized {
			f.err.Detail = strings.Replace(f.err.Detail, "it answers", "it answers the login with", 1)
		}
		return f
	case errors.As(err, &own):
		return &failure{err: own}
	case errors.Is(err, http.ErrSchemeMismatch), errors.Is(err, ErrPlainHTTP):
		e.Kind, e.Do, f.retry = ErrPlainHTTP, "use HTTPS, or name the host in plain_http", false
		return f
	}
	e.Detail, f.retry = describe(err)
	return f
}

// describe says what went wrong with a connection and whether another attempt
// may work.
func describe(err error) (detail string, retry bool) {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		return "the name " + dns.Name + " is not known", !dns.IsNotFound
	case errors.As(err, &cert):
		return cert.Error(), false
	case errors.As(err, &errno):
		return errno.Error(), true
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "the connection ended early", true
	case errors.Is(err, errRedirects):
		return errRedirects.Error(), false
	case strings.HasSuffix(err.Error(), http.StatusText(http.StatusProxyAuthRequired)):
		return "the proxy wants a password", false
	case errors.As(err, &timeout) && timeout.Timeout():
		return "the connection timed out", true
	}
	return "its answer is not understood", true
}
