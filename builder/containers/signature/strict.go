package signature

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// object reads a JSON object. A field that is there twice is an error, and so
// is one that is not among known, if any are given; names are compared as they
// are, where encoding/json takes other cases too.
func object(data []byte, known ...string) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("a JSON object is wanted")
	}
	fields := map[string]json.RawMessage{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string) // the decoder lets nothing else be a name
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("the field %q is there twice", name)
		}
		if len(known) > 0 && !slices.Contains(known, name) {
			return nil, fmt.Errorf("the field %q is not known", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		fields[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON object")
	}
	return fields, nil
}

// whole reads a JSON object that has all of the fields and no others.
func whole(data []byte, names ...string) (map[string]json.RawMessage, error) {
	fields, err := object(data, names...)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, found := fields[name]; !found {
			return nil, fmt.Errorf("the field %q is missing", name)
		}
	}
	return fields, nil
}

// text reads a JSON string. null, which encoding/json takes for one, is none.
func text(data []byte) (string, error) {
	var s *string
	if err := json.Unmarshal(data, &s); err != nil || s == nil {
		return "", errors.New("a string is wanted")
	}
	return *s, nil
}
