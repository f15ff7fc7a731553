package archivetest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fault is what a server does instead of answering well.
type Fault int

const (
	// Truncated: the connection ends in the middle of the file.
	Truncated Fault = iota
	// Damaged: one byte of the file is another.
	Damaged
	// Shorter and Longer: the file is whole, and not the one announced.
	Shorter
	Longer
	// Unavailable: 503, with Retry-After when Archive.RetryAfter is set.
	Unavailable
	// Forbidden: 403. Missing: 404.
	Forbidden
	Missing
	// Silent: half the file comes, then nothing until the client leaves.
	Silent
	// NoRange: Range is ignored and the whole file sent.
	NoRange
	// Redirected: the file is at another address.
	Redirected
)

// A rule makes a fault happen to the requests of a path.
type rule struct {
	pattern string
	fault   Fault
	times   int
}

// A file is in memory or on disk.
type file struct {
	data []byte
	path string
}

func (f file) bytes() ([]byte, error) {
	if f.path != "" {
		return os.ReadFile(f.path)
	}
	return f.data, nil
}

// serving is the server's side of an Archive.
type serving struct {
	// RetryAfter is what Unavailable asks for; nothing when zero.
	RetryAfter time.Duration

	mu       sync.Mutex
	files    map[string]file
	rules    []*rule
	requests []string
	done     chan struct{}
	once     sync.Once
}

func newServing() *serving {
	return &serving{files: map[string]file{}, done: make(chan struct{})}
}

// Fail makes requests for the files that match the pattern fail: so many times,
// or always when times is negative. A pattern is that of path.Match, on the path
// in the archive or its last element. Several faults of one file come one after
// the other.
func (s *serving) Fail(pattern string, fault Fault, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, &rule{pattern, fault, times})
}

// Heal ends all faults.
func (s *serving) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = nil
}

// Requests returns the paths asked for since the last call, in order, with the
// range behind them where there was one.
func (s *serving) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests
	s.requests = nil
	return r
}

// Replace serves other bytes under a path of the archive.
func (s *serving) Replace(name string, data []byte) { s.put(name, file{data: data}) }

// File returns what is served under a path of the archive, nil when nothing is.
func (s *serving) File(name string) []byte {
	s.mu.Lock()
	f, ok := s.files[name]
	s.mu.Unlock()
	if !ok {
		return nil
	}
	data, err := f.bytes()
	if err != nil {
		return nil
	}
	return data
}

func (s *serving) put(name string, f file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[name] = f
}

func (s *serving) clear(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.files {
		if strings.HasPrefix(name, prefix) {
			delete(s.files, name)
		}
	}
}

func (s *serving) all() map[string]file {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.files)
}

// release lets silent requests go, so that the server can close.
func (s *serving) release() { s.once.Do(func() { close(s.done) }) }

// faultOf notes the request and returns what is to happen to it.
func (s *serving) faultOf(name string, r *http.Request) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, strings.TrimSpace(name+" "+r.Header.Get("Range")))
	for _, rule := range s.rules {
		whole, _ := path.Match(rule.pattern, name)
		last, _ := path.Match(rule.pattern, path.Base(name))
		if rule.times != 0 && (whole || last) {
			rule.times--
			return rule.fault, true
		}
	}
	return 0, false
}

func (s *serving) handler(a *Archive) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, moved := strings.CutPrefix(r.URL.Path, "/moved/")
		if !moved {
			name = strings.TrimPrefix(r.URL.Path, "/archive/")
		}
		data := s.File(name)
		fault, failing := s.faultOf(name, r)
		if !failing {
			if data == nil {
				http.NotFound(w, r)
				return
			}
			s.send(w, r, a, name, data)
			return
		}
		s.fail(w, r, a, name, data, fault)
	})
}

// send answers as a good server does, ranges and conditions included.
func (s *serving) send(w http.ResponseWriter, r *http.Request, a *Archive, name string, data []byte) {
	w.Header().Set("Content-Type", "application/octet-stream")
	var modified time.Time
	if a.Validators {
		w.Header().Set("ETag", fmt.Sprintf("\"%x\"", sha256.Sum256(data)))
		modified = a.Date
	}
	http.ServeContent(w, r, path.Base(name), modified, bytes.NewReader(data))
}

func (s *serving) fail(w http.ResponseWriter, r *http.Request, a *Archive, name string, data []byte, fault Fault) {
	switch fault {
	case Truncated, Silent:
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data[:len(data)/2])
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		if fault == Silent {
			select {
			case <-r.Context().Done():
			case <-s.done:
			}
		}
		panic(http.ErrAbortHandler) // the server's way to cut a connection
	case Damaged:
		data = bytes.Clone(data)
		data[len(data)/2] ^= 1
		s.send(w, r, a, name, data)
	case Shorter:
		s.send(w, r, a, name, data[:len(data)/2])
	case Longer:
		s.send(w, r, a, name, append(bytes.Clone(data), "more"...))
	case Unavailable:
		if s.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(s.RetryAfter/time.Second)))
		}
		http.Error(w, "overloaded", http.StatusServiceUnavailable)
	case Forbidden:
		http.Error(w, "no", http.StatusForbidden)
	case Missing:
		http.NotFound(w, r)
	case NoRange:
		r.Header.Del("Range")
		s.send(w, r, a, name, data)
	case Redirected:
		http.Redirect(w, r, "/moved/"+name, http.StatusFound)
	}
}
