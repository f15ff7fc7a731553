package boottest

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// A Suite is a report under a name, for [WriteJUnit].
type Suite struct {
	Name   string
	Report *Report
	Err    error // why there was nothing to judge
}

// The elements of the XML that JUnit's runner for Ant writes and that test servers
// read; there is no specification, and this is what all of them take.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string     `xml:"classname,attr"`
		Name    string     `xml:"name,attr"`
		Time    string     `xml:"time,attr"`
		Failure *junitText `xml:"failure"`
		Error   *junitText `xml:"error"`
		Skipped *junitText `xml:"skipped"`
		Out     string     `xml:"system-out,omitempty"`
	}
	junitText struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes reports as JUnit XML, a suite each. Times are in seconds.
func WriteJUnit(w io.Writer, suites []Suite) error {
	var all junitSuites
	var took time.Duration
	for _, s := range suites {
		suite := junitOf(s)
		all.Suites = append(all.Suites, suite)
		all.Tests += suite.Tests
		all.Failures += suite.Failures
		all.Errors += suite.Errors
		all.Skipped += suite.Skipped
		if s.Report != nil {
			took += s.Report.Took
		}
	}
	all.Time = junitTime(took)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func junitTime(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

func junitOf(s Suite) junitSuite {
	suite := junitSuite{Name: s.Name, Time: junitTime(0)}
	if s.Report != nil {
		suite.Time = junitTime(s.Report.Took)
		suite.Failures, suite.Skipped = s.Report.Count(Failed), s.Report.Count(Skipped)
		for _, r := range s.Report.Results {
			suite.Cases = append(suite.Cases, junitCaseOf(s.Name, r))
		}
	}
	if s.Err != nil {
		suite.Errors = 1
		suite.Cases = append(suite.Cases, junitCase{
			Class: s.Name, Name: "machine", Time: junitTime(0),
			Error: &junitText{Message: s.Err.Error()},
		})
	}
	suite.Tests = len(suite.Cases)
	return suite
}

func junitCaseOf(class string, r Result) junitCase {
	c := junitCase{Class: class, Name: r.Name, Time: junitTime(r.Took), Out: r.Note}
	if len(r.Details) == 0 {
		return c
	}
	text := &junitText{Message: r.Details[0], Text: strings.Join(r.Details, "\n")}
	if r.Status == Skipped {
		c.Skipped = text
	} else {
		c.Failure = text
	}
	return c
}
