package schema

import (
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// patterns are those by which YAML 1.1, as PyYAML reads it, gives a plain scalar its
// type, and those of respell.
type patterns struct {
	boolean, integer, float, timestamp, date *regexp.Regexp
	version, tab                             *regexp.Regexp
}

func newPatterns() patterns {
	return patterns{
		boolean: regexp.MustCompile(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`),
		integer: regexp.MustCompile(`^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`),
		float: regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?` +
			`|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`),
		timestamp: regexp.MustCompile(`^(\d{4})-(\d\d?)-(\d\d?)(?:(?:[Tt]|[ \t]+)(\d\d?):(\d\d):(\d\d)(?:\.\d*)?(?:[ \t]*(?:Z|[-+](\d\d?)(?::(\d\d))?))?)?$`),
		date:      regexp.MustCompile(`^\d{4}-\d\d-\d\d$`),
		version:   regexp.MustCompile(`(?m)^%YAML +1\.([02-9]) *\r?$`),
		tab:       regexp.MustCompile(`(?m)^ *\t`),
	}
}

// tag returns the tag of a plain scalar.
func (p patterns) tag(s string) string {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return "!!null"
	case "<<":
		return "!!merge"
	case "=":
		return "!!value"
	}
	switch c := s[0]; {
	case strings.IndexByte("yYnNtTfFoO", c) >= 0:
		if p.boolean.MatchString(s) {
			return "!!bool"
		}
	case strings.IndexByte("-+.0123456789", c) >= 0:
		switch {
		case p.float.MatchString(s):
			return "!!float"
		case p.integer.MatchString(s):
			return "!!int"
		case p.date.MatchString(s), len(s) > len("2006-01-02") && p.timestamp.MatchString(s):
			return "!!timestamp"
		}
	}
	return "!!str"
}

// scalar gives v its kind and contents. What is returned is the reason why Python
// could make no value of it.
func (p patterns) scalar(v *value, tag string) error {
	switch tag {
	case "!!str":
		v.kind = text
	case "!!null":
		v.kind = null
	case "!!bool":
		v.kind = boolean
		switch strings.ToLower(v.text) {
		case "yes", "true", "on":
			v.flag = true
		case "no", "false", "off":
		default:
			return fmt.Errorf("%s is no boolean", quote(v.text))
		}
	case "!!int":
		return v.setInteger()
	case "!!float":
		return v.setFloat()
	case "!!timestamp":
		v.kind = date
		if !p.isTime(v.text) {
			return fmt.Errorf("%s is no date that exists: write it in quotes where it is a text", quote(v.text))
		}
	case "!!binary":
		v.kind = binary
		if !isBase64(v.text) {
			return fmt.Errorf("this is no base64, which !!binary wants")
		}
	case "!!merge", "!!value":
		return fmt.Errorf("a plain %s has no meaning here: write it in quotes", v.text)
	default:
		return fmt.Errorf("the tag %s is unknown to cloud-init", quote(tag))
	}
	return nil
}

// maxDigits is how long a number may be. Python refuses longer decimal ones.
const maxDigits = 4300

func (v *value) setInteger() error {
	v.kind = integer
	digits := strings.ReplaceAll(v.text, "_", "")
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	total, ok := new(big.Int), digits != "" && len(digits) <= maxDigits && digits[0] != '-' && digits[0] != '+'
	switch {
	case !ok:
	case strings.HasPrefix(digits, "0b"):
		_, ok = total.SetString(digits[2:], 2)
	case strings.HasPrefix(digits, "0x"):
		_, ok = total.SetString(digits[2:], 16)
	case digits[0] == '0':
		_, ok = total.SetString(digits, 8)
	default:
		part, sixty := new(big.Int), big.NewInt(60)
		for _, s := range strings.Split(digits, ":") {
			if _, ok = part.SetString(s, 10); !ok {
				break
			}
			total.Add(total.Mul(total, sixty), part)
		}
	}
	if !ok {
		return fmt.Errorf("%s is no whole number", quote(v.text))
	}
	if negative {
		total.Neg(total)
	}
	v.whole = total
	v.number, _ = new(big.Float).SetInt(total).Float64()
	return nil
}

func (v *value) setFloat() error {
	v.kind = float
	digits := strings.ToLower(strings.ReplaceAll(v.text, "_", ""))
	sign := 1.0
	if strings.HasPrefix(digits, "-") {
		sign = -1
	}
	digits = strings.TrimPrefix(strings.TrimPrefix(digits, "-"), "+")
	switch digits {
	case ".inf":
		v.number = math.Inf(int(sign))
		return nil
	case ".nan":
		v.number = math.NaN()
		return nil
	}
	for _, s := range strings.Split(digits, ":") {
		part, err := strconv.ParseFloat(s, 64)
		if err != nil && !math.IsInf(part, 0) {
			return fmt.Errorf("%s is no number", quote(v.text))
		}
		v.number = v.number*60 + part
	}
	v.number *= sign
	return nil
}

// isTime says whether a date, and the time with it, is one that Python's datetime
// can hold.
func (p patterns) isTime(s string) bool {
	m := p.timestamp.FindStringSubmatch(s)
	if m == nil {
		return false
	}
	var n [9]int
	for i, digits := range m[1:] {
		n[i+1], _ = strconv.Atoi(digits)
	}
	day := time.Date(n[1], time.Month(n[2]), n[3], 0, 0, 0, 0, time.UTC)
	return n[1] > 0 && day.Year() == n[1] && int(day.Month()) == n[2] && day.Day() == n[3] &&
		n[4] < 24 && n[5] < 60 && n[6] < 60 && n[7]*60+n[8] < 24*60
}

// isBase64 says whether Python decodes s: it skips what is not of the alphabet,
// padding in the middle too, and wants the last group of four to be whole.
func isBase64(s string) bool {
	group, pads := 0, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			return false
		case c == '=':
			pads++
		case c == '+' || c == '/' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z':
			group, pads = (group+1)%4, 0
		}
	}
	return group == 0 || group >= 2 && group+pads >= 4
}
