package plan

import "testing"

func TestKeyDependsOnEverythingOfAStage(t *testing.T) {
	base := Stage{Name: "base", Version: 1, Params: map[string]string{"b": "2", "a": "1"}, Inputs: []Key{"x", "y"}}
	same := Stage{Name: "base", Version: 1, Params: map[string]string{"a": "1", "b": "2"}, Inputs: []Key{"x", "y"}}
	key, err := base.Key()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := same.Key(); again != key {
		t.Errorf("the order of a map's keys changed the key: %s, %s", key, again)
	}
	others := map[string]Stage{
		"name":           {Name: "tree", Version: 1, Params: base.Params, Inputs: base.Inputs},
		"version":        {Name: "base", Version: 2, Params: base.Params, Inputs: base.Inputs},
		"params":         {Name: "base", Version: 1, Params: map[string]string{"a": "1"}, Inputs: base.Inputs},
		"inputs":         {Name: "base", Version: 1, Params: base.Params, Inputs: []Key{"x"}},
		"order of input": {Name: "base", Version: 1, Params: base.Params, Inputs: []Key{"y", "x"}},
	}
	for what, stage := range others {
		if other, _ := stage.Key(); other == key {
			t.Errorf("another %s gives the same key", what)
		}
	}
}

func TestKeySaysWhichStageCannotBeEncoded(t *testing.T) {
	if _, err := (Stage{Name: "tree", Params: func() {}}).Key(); err == nil {
		t.Fatal("a function was taken as a parameter")
	}
}
