package schema

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/applbuild/applbuild/cidata/cloudinittest"
)

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A trial is a file for cloud-init to judge.
type trial struct {
	Type string `json:"type"` // cloud-config or network-config
	Data []byte `json:"data"`
}

// judge is our verdict.
func (t trial) judge(c *Judge) []Problem {
	if t.Type == "network-config" {
		return c.NetworkConfig(t.Data)
	}
	return c.UserData(t.Data)
}

// A verdict is what cloud-init says.
type verdict struct {
	Valid, Deprecated bool
	Why               string
}

// cloudInitJudges are cloud-init's verdicts.
func cloudInitJudges(t *testing.T, cloud cloudinittest.Tree, trials []trial) []verdict {
	t.Helper()
	lines := make([]any, len(trials))
	for i, c := range trials {
		lines[i] = c
	}
	decoder := json.NewDecoder(cloud.Run(t, "testdata/judge.py", lines...))
	verdicts := make([]verdict, len(trials))
	for i := range verdicts {
		if err := decoder.Decode(&verdicts[i]); err != nil {
			t.Fatalf("cloud-init answered %d of %d: %v", i, len(trials), err)
		}
	}
	return verdicts
}
