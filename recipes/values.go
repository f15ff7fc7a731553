package recipes

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. In a recipe it may end in K, M, G or T, powers of 1024.
type Size int64

// ParseSize reads a size as it is written in a recipe.
func ParseSize(text string) (Size, error) {
	digits := text[:len(text)-len(strings.TrimLeft(text, "0123456789"))]
	number, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("size %q is not a whole number with a unit: write bytes, or a number with K, M, G or T such as 512M", shorten(text))
	}
	shift := 0
	switch unit := text[len(digits):]; unit {
	case "":
	case "K":
		shift = 10
	case "M":
		shift = 20
	case "G":
		shift = 30
	case "T":
		shift = 40
	default:
		return 0, fmt.Errorf("size %q: unknown unit %s: use K, M, G or T", shorten(text), shorten(strings.Trim(strconv.Quote(unit), `"`)))
	}
	if number > math.MaxInt64>>shift {
		return 0, fmt.Errorf("size %s is too large: use at most %dT", text, int64(math.MaxInt64>>40))
	}
	return Size(number << shift), nil
}

// String returns the size with the largest unit that divides it.
func (s Size) String() string {
	units := "TGMK"
	for i := range len(units) {
		if unit := int64(1) << (40 - 10*i); s != 0 && int64(s)%unit == 0 {
			return strconv.FormatInt(int64(s)/unit, 10) + units[i:i+1]
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

func (s *Size) parse(text string) (err error) {
	*s, err = ParseSize(text)
	return err
}

// A Timestamp is a point in time in UTC; the zero value is none.
type Timestamp struct{ time.Time }

func (t *Timestamp) parse(text string) error {
	for _, layout := range []string{"2006-01-02", "20060102", "20060102T150405Z", "2006-01-02T15:04:05Z", "2006-01-02 15:04:05"} {
		if at, err := time.Parse(layout, text); err == nil {
			t.Time = at
			return nil
		}
	}
	return fmt.Errorf("%q is not a date: write a day (2026-03-01) or a time in UTC (20260301T120000Z)", shorten(text))
}

// MarshalJSON writes the time in the form of RFC 3339, or an empty string for none.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte(`""`), nil
	}
	return []byte(t.UTC().Format(`"` + time.RFC3339 + `"`)), nil
}

// Mode is a file's permissions with setuid, setgid and sticky bits, 07777 at most.
type Mode uint32

func (m *Mode) parse(text string) error {
	bits, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
	if err != nil || bits > 0o7777 {
		return fmt.Errorf("mode %q is not a file's permissions: write octal digits such as 0644, at most 7777", shorten(text))
	}
	*m = Mode(bits)
	return nil
}

// MarshalJSON writes the mode as text in octal digits.
func (m Mode) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `"%04o"`, uint32(m)), nil }

func (o *Owner) parse(text string) error {
	o.User, o.Group, _ = strings.Cut(text, ":")
	for _, id := range []string{o.User, o.Group} {
		if id != "" && id[0] >= '0' && id[0] <= '9' {
			if n, err := strconv.ParseUint(id, 10, 32); err != nil || n == math.MaxUint32 {
				return fmt.Errorf("owner %q: %s is too large: use a number below 4294967295", shorten(text), shorten(id))
			}
		}
	}
	return nil
}

// MarshalJSON writes the owner as user:group.
func (o Owner) MarshalJSON() ([]byte, error) {
	return strconv.AppendQuote(nil, o.User+":"+o.Group), nil
}

func (s *Sudo) parse(text string) error {
	switch text {
	case "false":
		*s = SudoNo
	case "true":
		*s = SudoPassword
	case "nopasswd":
		*s = SudoNoPassword
	default:
		return fmt.Errorf("%q is not known: use true, false or nopasswd", shorten(text))
	}
	return nil
}
