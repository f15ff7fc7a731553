package recipes

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span. In a recipe it is seconds, or a number with ms, s, m or h.
type Duration time.Duration

// maxDuration is the longest time a test may ask for.
const maxDuration = 24 * time.Hour

func (d *Duration) parse(text string) error {
	digits := strings.TrimRight(text, "hms")
	unit, known := map[string]time.Duration{"": time.Second, "ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour}[text[len(digits):]]
	number, err := strconv.ParseFloat(digits, 64)
	if !known || err != nil || number < 0 {
		return fmt.Errorf("%q is not a time: write seconds, or a number with ms, s, m or h such as 90s", shorten(text))
	}
	if number*float64(unit) > float64(maxDuration) {
		return fmt.Errorf("%s is too long: use at most %dh", shorten(text), maxDuration/time.Hour)
	}
	*d = Duration(number * float64(unit))
	return nil
}

// String returns the time as time.Duration writes it.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON writes the time as text.
func (d Duration) MarshalJSON() ([]byte, error) { return strconv.AppendQuote(nil, d.String()), nil }

// RegularExpression returns what a pattern of a test has between its slashes; without slashes it is a text to look for
// as it is.
func RegularExpression(pattern string) (text string, is bool) {
	if len(pattern) > 2 && pattern[0] == '/' && pattern[len(pattern)-1] == '/' {
		return pattern[1 : len(pattern)-1], true
	}
	return "", false
}

func checkPattern(pattern string) error {
	text, is := RegularExpression(pattern)
	if !is {
		return nil
	}
	_, err := regexp.Compile(text)
	return err
}
