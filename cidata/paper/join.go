package paper

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrNoCodes says that a scan holds no codes at all.
var ErrNoCodes = errors.New("no codes of a seed: each begins with " + magic + version)

// A Damage is a code that was found and cannot be used.
type Damage struct {
	Where  string // name of the scan and line
	Number int    // as the code says, 0 where it cannot be read
	Spare  bool
	Reason string
}

// A MissingError names the codes without which a seed cannot be restored.
type MissingError struct {
	Total   int      // codes of the seed, without spare ones
	Missing []int    // codes of which nothing was found
	Damaged []Damage // codes that were found, and that another scan may give
}

func (e *MissingError) Error() string {
	var parts []string
	if len(e.Missing) > 0 {
		parts = append(parts, fmt.Sprintf("%s of %d %s missing", numbers(e.Missing), e.Total, isAre(len(e.Missing))))
	}
	const most = 5 // damages are told one by one
	for _, d := range e.Damaged[:min(len(e.Damaged), most)] {
		name := "a code"
		switch {
		case d.Spare:
			name = fmt.Sprintf("spare code %d", d.Number)
		case d.Number > 0:
			name = fmt.Sprintf("code %d", d.Number)
			if e.Total > 0 {
				name = fmt.Sprintf("code %d of %d", d.Number, e.Total)
			}
		}
		parts = append(parts, fmt.Sprintf("%s is damaged (%s: %s)", name, d.Where, d.Reason))
	}
	if more := len(e.Damaged) - most; more > 0 {
		parts = append(parts, fmt.Sprintf("%d more are damaged", more))
	}
	return strings.Join(parts, "; ") + ": scan these again"
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// numbers lists codes as people do, with runs drawn together: code 3; codes 3 and 7; codes 1 to 4, 7 and 9.
func numbers(list []int) string {
	var runs []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		switch {
		case j > i+1:
			runs = append(runs, fmt.Sprintf("%d to %d", list[i], list[j]))
		default:
			for _, n := range list[i : j+1] {
				runs = append(runs, fmt.Sprint(n))
			}
		}
		i = j + 1
	}
	name := "code "
	if len(list) > 1 {
		name = "codes "
	}
	if len(runs) > 1 {
		runs = append(runs[:len(runs)-2], runs[len(runs)-2]+" and "+runs[len(runs)-1])
	}
	return name + strings.Join(runs, ", ")
}

// A MixedError says that codes of several seeds were scanned together.
type MixedError struct {
	SHA256 []string // of the archives, in the order they were met
	Where  []string // where the first code of each is
}

func (e *MixedError) Error() string {
	var parts []string
	for i, sum := range e.SHA256 {
		parts = append(parts, fmt.Sprintf("%s… (%s)", sum[:16], e.Where[i]))
	}
	return "codes of different seeds, by their SHA-256: " + strings.Join(parts, ", ") + ": restore one after the other"
}

// Join puts the archive together from all scans. A code that is missing or damaged is made up for by another scan of it
// or by a spare code; where that is not enough the error is a [*MissingError]. Codes of several seeds are a
// [*MixedError], none at all [ErrNoCodes]. The archive returned has the SHA-256 that is in the codes.
func Join(scans ...Scan) ([]byte, error) {
	var pieces []piece
	var damaged []Damage
	var names []string
	for _, s := range scans {
		p, d, err := s.read()
		if err != nil {
			return nil, err
		}
		pieces, damaged, names = append(pieces, p...), append(damaged, d...), append(names, s.Name)
	}
	switch {
	case len(pieces) > 0:
	case len(damaged) > 0:
		return nil, &MissingError{Damaged: damaged}
	default:
		return nil, fmt.Errorf("%s: %w", strings.Join(names, ", "), ErrNoCodes)
	}
	if err := sameSeed(pieces); err != nil {
		return nil, err
	}
	s := &seed{total: pieces[0].total, size: pieces[0].size, codes: map[int]piece{}, spare: map[int]piece{}}
	for _, p := range pieces {
		if err := s.add(p); err != nil {
			return nil, err
		}
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	s.fill()
	if err := s.missing(damaged); err != nil {
		return nil, err
	}
	archive := make([]byte, 0, s.size)
	for n := 1; n <= s.total; n++ {
		archive = append(archive, s.codes[n].payload...)
	}
	return archive, verify(archive, pieces[0].digest())
}

// sameSeed refuses codes of several seeds, and codes that tell different things of one.
func sameSeed(pieces []piece) error {
	var mixed MixedError
	for _, p := range pieces {
		if !slices.Contains(mixed.SHA256, p.digest()) {
			mixed.SHA256, mixed.Where = append(mixed.SHA256, p.digest()), append(mixed.Where, p.where)
		}
		// Who scans hundreds of seeds need not read of all.
		if len(mixed.SHA256) == 5 {
			break
		}
	}
	if len(mixed.SHA256) > 1 {
		return &mixed
	}
	for _, p := range pieces {
		if p.total != pieces[0].total || p.size != pieces[0].size {
			return fmt.Errorf("%s: the code says %d bytes in %d codes, the one at %s %d bytes in %d codes: one of them is forged",
				p.where, p.size, p.total, pieces[0].where, pieces[0].size, pieces[0].total)
		}
	}
	return nil
}

// seed is the codes of one seed, by their numbers.
type seed struct {
	total, size  int
	chunk        int // bytes in all codes but the last; 0 where only the last was found
	codes, spare map[int]piece
}

func (s *seed) add(p piece) error {
	list := s.codes
	if p.spare {
		list = s.spare
	}
	if old, ok := list[p.number]; ok {
		if !bytes.Equal(old.payload, p.payload) {
			return fmt.Errorf("%s: code %d of %d is also at %s, with other contents: one of them is forged", p.where, p.number, p.total, old.where)
		}
		return nil
	}
	list[p.number] = p
	if p.spare || p.number < p.total || p.total == 1 {
		s.chunk = len(p.payload)
	}
	return nil
}

// length is the number of bytes in a code.
func (s *seed) length(n int) int {
	if n == s.total {
		return s.size - (s.total-1)*s.chunk
	}
	return s.chunk
}

// check refuses codes that cannot be parts of one archive.
func (s *seed) check() error {
	if s.chunk == 0 {
		return nil
	}
	bad := func(p piece) error {
		return fmt.Errorf("%s: the code has %d bytes, which do not fit the others: it is forged", p.where, len(p.payload))
	}
	for n := 1; n <= s.total; n++ {
		if p, ok := s.codes[n]; ok && len(p.payload) != s.length(n) {
			return bad(p)
		}
		if p, ok := s.spare[n]; ok && (len(p.payload) != s.chunk || s.length(s.total) < 1 || s.length(s.total) > s.chunk) {
			return bad(p)
		}
	}
	return nil
}

// fill makes up for missing codes, one for each spare code.
func (s *seed) fill() {
	step := spares(s.total)
	for first, p := range s.spare {
		missing, data := 0, slices.Clone(p.payload)
		gone := 0
		for n := first; n <= s.total; n += step {
			if c, ok := s.codes[n]; ok {
				mix(data, c.payload)
				continue
			}
			missing, gone = n, gone+1
		}
		if gone == 1 {
			s.codes[missing] = piece{number: missing, payload: data[:s.length(missing)]}
		}
	}
}

// missing returns a *MissingError where codes are.
func (s *seed) missing(damaged []Damage) error {
	e := &MissingError{Total: s.total}
	for n := 1; n <= s.total; n++ {
		if _, ok := s.codes[n]; ok {
			continue
		}
		at := slices.IndexFunc(damaged, func(d Damage) bool { return d.Number == n && !d.Spare })
		if at < 0 {
			e.Missing = append(e.Missing, n)
			continue
		}
		e.Damaged = append(e.Damaged, damaged[at])
	}
	if len(e.Missing)+len(e.Damaged) == 0 {
		return nil
	}
	for _, d := range damaged {
		if d.Number == 0 || d.Spare {
			e.Damaged = append(e.Damaged, d)
		}
	}
	return e
}
