package docker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// maxConfig is the largest daemon.json that is read, in bytes.
const maxConfig = 1 << 20

// Configure returns a daemon.json that has what Store relies on, and all that
// existing says besides; existing may be empty. Errors match ErrConfig where
// it is no daemon.json or says something else.
func (s Store) Configure(existing []byte) ([]byte, error) {
	s = s.withDefaults()
	if err := checkPath(s.DataRoot); err != nil {
		return nil, err
	}
	config, err := readConfig(existing)
	if err != nil {
		return nil, err
	}
	if _, there := config["userns-remap"]; there {
		return nil, fmt.Errorf("%w: userns-remap: images of the system have the owners of their files, which this changes: remove it", ErrConfig)
	}
	set := func(key string, value any) error {
		if is, there := config[key]; there && is != value {
			return fmt.Errorf("%w: %s is %v: images of the system need %v", ErrConfig, key, is, value)
		}
		config[key] = value
		return nil
	}
	if s.DataRoot != DataRoot || config["data-root"] != nil {
		if err := set("data-root", s.DataRoot); err != nil {
			return nil, err
		}
	}
	if err := set("storage-driver", "overlay2"); err != nil {
		return nil, err
	}
	const feature = "containerd-snapshotter"
	features, ok := config["features"].(map[string]any)
	if !ok {
		if config["features"] != nil {
			return nil, fmt.Errorf("%w: features is no object", ErrConfig)
		}
		features = map[string]any{}
	}
	if is, there := features[feature]; there && is != false {
		return nil, fmt.Errorf("%w: features: %s is %v: images of the system need the storage driver overlay2", ErrConfig, feature, is)
	}
	features[feature] = false
	config["features"] = features
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(config); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return b.Bytes(), nil
}

func readConfig(data []byte) (map[string]any, error) {
	if len(data) > maxConfig {
		return nil, fmt.Errorf("%w: %d bytes, %d are allowed", ErrConfig, len(data), maxConfig)
	}
	config := map[string]any{}
	if len(bytes.TrimSpace(data)) == 0 {
		return config, nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&config); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows the object", ErrConfig)
	}
	if config == nil {
		return nil, fmt.Errorf("%w: it is null, not an object", ErrConfig)
	}
	return config, nil
}
