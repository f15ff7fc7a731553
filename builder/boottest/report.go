package boottest

import "time"

// A Status is how a step came out.
type Status string

const (
	Passed  Status = "ok"
	Failed  Status = "FAIL"
	Skipped Status = "skip" // the machine could not be asked any more
)

// A Result is what came of a step, or of what goes with each boot.
type Result struct {
	Name    string
	Status  Status
	Took    time.Duration
	Note    string   // what else is worth knowing of one that passed, in short
	Details []string // why it failed or was skipped; the first line says it in short
}

// A Report is what came of a plan.
type Report struct {
	Results []Result
	// NeverUp is true when a boot that was to come up did not.
	NeverUp  bool
	Consoles []string // files that hold the consoles, one a boot
	Took     time.Duration
}

// Count returns how many results have a status.
func (r *Report) Count(s Status) int {
	n := 0
	for _, result := range r.Results {
		if result.Status == s {
			n++
		}
	}
	return n
}
