package containers

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

type object = map[string]any

func encode(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const (
	layerDigest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	diffID      = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
)

// image returns a good config and manifest, after change was made to them.
func image(t testing.TB, change func(manifest, config, layer object)) (manifest, config []byte) {
	t.Helper()
	layer := object{"mediaType": TypeOCILayerGzip, "digest": layerDigest, "size": 100}
	c := object{
		"os": "linux", "architecture": "arm64", "variant": "v8", "created": "2024-05-06T09:08:09+02:00",
		"config": object{"Labels": object{"vendor": "us"}},
		"rootfs": object{"type": "layers", "diff_ids": []string{diffID}},
	}
	m := object{"schemaVersion": 2, "mediaType": TypeOCIManifest, "layers": []object{layer}, "config": object{"mediaType": TypeOCIConfig}}
	change(m, c, layer)
	config = encode(t, c)
	d := object{"mediaType": TypeOCIConfig, "digest": DigestOf(config), "size": len(config)}
	maps.Copy(d, m["config"].(object))
	m["config"] = d
	return encode(t, m), config
}

func TestImageIsReadFromItsManifestAndConfig(t *testing.T) {
	manifest, config := image(t, func(_, _, _ object) {})
	img, err := Parse(manifest, "", config)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(img.Platform, img.Created, img.Labels, img.Layers, img.ID == DigestOf(config), img.Digest == DigestOf(manifest))
	want := fmt.Sprintf("linux/arm64/v8 2024-05-06 07:08:09 +0000 UTC map[vendor:us] [{%s %s %s 100}] true true", layerDigest, diffID, TypeOCILayerGzip)
	if got != want {
		t.Errorf("read\n%s, want\n%s", got, want)
	}
	ref, err := ConfigOf(manifest, "")
	if err != nil || ref.Digest != img.ID || ref.Size != int64(len(config)) {
		t.Errorf("the config is %+v, %v", ref, err)
	}
}

func TestWhatIsNoImageIsRefused(t *testing.T) {
	many := make([]object, MaxLayers+1)
	for i := range many {
		many[i] = object{"mediaType": TypeOCILayer, "digest": layerDigest, "size": 1}
	}
	for says, change := range map[string]func(m, c, l object){
		"0 layers":                  func(m, _, _ object) { m["layers"] = []object{} },
		"128 layers":                func(m, _, _ object) { m["layers"] = many },
		"schema version 1":          func(m, _, _ object) { m["schemaVersion"] = 1 },
		"schema version 2 of \"x\"": func(m, _, _ object) { m["mediaType"] = "x" },
		"something else":            func(m, _, _ object) { m["config"] = object{"mediaType": "application/x"} },
		"the manifest names \"x\"":  func(m, _, _ object) { m["config"] = object{"digest": "x", "mediaType": TypeOCIConfig} },
		"names 2 layers":            func(_, c, _ object) { c["rootfs"] = object{"diff_ids": []string{diffID, diffID}} },
		"diff id":                   func(_, c, _ object) { c["rootfs"] = object{"diff_ids": []string{"sha256:x"}} },
		"config: json":              func(_, c, _ object) { c["os"] = 7 },
		"foreign":                   func(_, _, l object) { l["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" },
		"nondistributable":          func(_, _, l object) { l["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar" },
		"not known":                 func(_, _, l object) { l["mediaType"] = TypeOCILayer + "+encrypted" },
		"from elsewhere":            func(_, _, l object) { l["urls"] = []string{"https://example.com"} },
		"is no digest":              func(_, _, l object) { l["digest"] = "sha256:../../../etc/passwd" },
		"has -1 bytes":              func(_, _, l object) { l["size"] = -1 },
		"has 1099511627776 bytes":   func(_, _, l object) { l["size"] = 1 << 40 },
	} {
		manifest, config := image(t, change)
		_, err := Parse(manifest, "", config)
		if !errors.Is(err, ErrFormat) || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%q is wanted: %v", says, err)
		}
	}
}

func TestPlatforms(t *testing.T) {
	for _, test := range []struct {
		image, machine string
		fits           bool
	}{
		{"linux/amd64", "linux/amd64", true},
		{"linux/amd64", "linux/arm64", false},
		{"windows/amd64", "linux/amd64", false},
		{"linux/arm64/v8", "linux/arm64", true},
		{"linux/arm64", "linux/arm64/v8", true},
		{"linux/arm/v7", "linux/arm", true},
		{"linux/arm/v7", "linux/arm/v6", false},
	} {
		image, err := ParsePlatform(test.image)
		if err != nil {
			t.Fatal(err)
		}
		machine, err := ParsePlatform(test.machine)
		if err != nil || image.String() != test.image {
			t.Fatal(image, err)
		}
		if image.Fits(machine) != test.fits {
			t.Errorf("%v on %v: %v", image, machine, !test.fits)
		}
	}
	for _, text := range []string{"", "linux", "linux/", "/amd64", "linux/arm/v7/x", "Linux/amd64", "linux/a b"} {
		if p, err := ParsePlatform(text); err == nil {
			t.Errorf("%q is %v", text, p)
		}
	}
}

func TestDigests(t *testing.T) {
	if d := DigestOf(nil); d != "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("of nothing: %s", d)
	}
	for _, text := range []string{"", "sha256:", layerDigest[7:], layerDigest + "1", "sha512:" + layerDigest[7:], "sha256:" + strings.Repeat("A", 64)} {
		if d, err := ParseDigest(text); err == nil {
			t.Errorf("%q is %s", text, d)
		}
	}
}

// index is an index of images for platforms; "-" is one for none.
func index(t testing.TB, platforms ...string) []byte {
	t.Helper()
	entries := []object{{
		"mediaType": TypeOCIManifest, "digest": layerDigest, "size": 1, "platform": object{"os": "unknown", "architecture": "unknown"},
		"annotations": object{"vnd.docker.reference.type": "attestation-manifest"},
	}}
	for i, text := range platforms {
		e := object{"mediaType": TypeOCIManifest, "digest": DigestOf([]byte{byte(i)}), "size": i}
		if p, err := ParsePlatform(text); err == nil {
			e["platform"] = object{"os": p.OS, "architecture": p.Architecture, "variant": p.Variant}
		}
		entries = append(entries, e)
	}
	return encode(t, object{"schemaVersion": 2, "manifests": entries})
}

func TestIndexEntryOfAPlatformIsChosen(t *testing.T) {
	for _, test := range []struct {
		platforms string
		want      string
		chosen    int // -1: none
	}{
		{"linux/amd64 linux/arm64", "linux/arm64", 1},
		{"linux/amd64 linux/arm64/v8", "linux/arm64", 1},
		{"linux/arm/v6 linux/arm/v7", "linux/arm/v7", 1},
		{"linux/arm/v6 linux/arm", "linux/arm", 1},
		{"linux/arm/v6 linux/arm/v7", "linux/arm", 0},
		{"linux/amd64", "linux/arm64", -1},
		{"-", "linux/arm64", 0},
		{"- -", "linux/arm64", -1},
		{"linux/amd64", "", 0},
		{"linux/amd64 linux/arm64", "", -1},
	} {
		entries, isIndex, err := ParseIndex(index(t, strings.Fields(test.platforms)...), "")
		if err != nil || !isIndex {
			t.Fatal(isIndex, err)
		}
		want, _ := ParsePlatform(test.want)
		entry, ok := Choose(entries, want)
		got := -1
		if ok {
			got = slices.Index(entries, entry)
		}
		if got != test.chosen {
			t.Errorf("of %s for %q: entry %d, want %d", test.platforms, test.want, got, test.chosen)
		}
	}
}

func TestIndexThatIsRefused(t *testing.T) {
	for says, doc := range map[string]object{
		"an index and a manifest": {"schemaVersion": 2, "manifests": []object{}, "config": object{}},
		"schema version 1":        {"schemaVersion": 1, "manifests": []object{}},
		"is no digest":            {"schemaVersion": 2, "manifests": []object{{"digest": "x"}}},
		"1025 manifests":          {"schemaVersion": 2, "manifests": make([]object, 1025)},
	} {
		if _, _, err := ParseIndex(encode(t, doc), TypeOCIIndex); !errors.Is(err, ErrFormat) || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%q is wanted: %v", says, err)
		}
	}
	manifest, _ := image(t, func(_, _, _ object) {})
	if _, isIndex, err := ParseIndex(manifest, TypeOCIIndex); isIndex || err != nil {
		t.Errorf("a manifest that the registry calls an index: %v, %v", isIndex, err)
	}
}

func FuzzParse(f *testing.F) {
	manifest, config := image(f, func(_, _, _ object) {})
	f.Add(manifest, config)
	f.Add([]byte(`{"schemaVersion":2,"layers":[{}]}`), []byte(`{"rootfs":{"diff_ids":["x"]}}`))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		// A manifest that names this config, so that what comes after that check
		// is seen too.
		var m object
		if json.Unmarshal(manifest, &m) == nil && m != nil {
			m["config"] = object{"mediaType": TypeOCIConfig, "digest": DigestOf(config), "size": len(config)}
			manifest = encode(t, m)
		}
		img, err := Parse(manifest, "", config)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Error(err)
			}
			return
		}
		if len(img.Layers) == 0 || len(img.Layers) > MaxLayers {
			t.Errorf("%d layers", len(img.Layers))
		}
		for _, l := range img.Layers {
			if l.Size < 0 || l.Size > maxBlob || len(l.Digest.Hex()) != 64 || len(l.DiffID.Hex()) != 64 {
				t.Errorf("layer %+v", l)
			}
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	f.Add(index(f, "linux/amd64", "linux/arm/v7"), TypeOCIIndex)
	f.Add([]byte(`{"schemaVersion":2,"manifests":[null,{}]}`), "")
	f.Fuzz(func(t *testing.T, data []byte, mediaType string) {
		entries, _, err := ParseIndex(data, mediaType)
		if err != nil && !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
		for _, e := range entries {
			if len(e.Digest.Hex()) != 64 || e.Size < 0 || e.Size > MaxDocument {
				t.Errorf("entry %+v", e)
			}
		}
	})
}
