package attached_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/containers"
	"github.com/applbuild/applbuild/builder/containers/attached"
)

const repository = "registry.example.com/web"

// A memory is a repository in memory.
type memory struct {
	manifests map[string][]byte // by tag and digest
	blobs     map[containers.Digest][]byte
	referrers map[containers.Digest][]any
}

func newMemory() *memory {
	return &memory{map[string][]byte{}, map[containers.Digest][]byte{}, map[containers.Digest][]any{}}
}

func (m *memory) Manifest(_ context.Context, name, tagOrDigest string) ([]byte, string, error) {
	data, found := m.manifests[tagOrDigest]
	if !found || name != repository {
		return nil, "", attached.ErrNotFound
	}
	return data, "", nil
}

func (m *memory) Blob(_ context.Context, _ string, digest containers.Digest, _ int64) ([]byte, error) {
	data, found := m.blobs[digest]
	if !found {
		return nil, attached.ErrNotFound
	}
	return data, nil
}

func (m *memory) Referrers(_ context.Context, _ string, digest containers.Digest) ([]byte, error) {
	if m.referrers[digest] == nil {
		return nil, attached.ErrNotFound
	}
	return json.Marshal(map[string]any{"mediaType": containers.TypeOCIIndex, "manifests": m.referrers[digest]})
}

func (m *memory) put(document map[string]any, tags ...string) containers.Digest {
	data, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	digest := containers.DigestOf(data)
	for _, name := range append(tags, string(digest)) {
		m.manifests[name] = data
	}
	return digest
}

func (m *memory) layer(mediaType, data string, annotations map[string]string) any {
	digest := containers.DigestOf([]byte(data))
	m.blobs[digest] = []byte(data)
	return map[string]any{"mediaType": mediaType, "digest": digest, "size": len(data), "annotations": annotations}
}

func (m *memory) refer(digest containers.Digest, artifactType string, layers ...any) {
	own := m.put(map[string]any{"mediaType": containers.TypeOCIManifest, "artifactType": artifactType, "layers": layers})
	m.referrers[digest] = append(m.referrers[digest], map[string]any{"mediaType": containers.TypeOCIManifest, "digest": own, "size": 1, "artifactType": artifactType})
}

// index stores an index of an image with an attestation as BuildKit makes it.
func (m *memory) index(image containers.Digest, statement, predicate string) containers.Digest {
	attestation := m.put(map[string]any{"mediaType": containers.TypeOCIManifest, "layers": []any{
		m.layer("application/vnd.in-toto+json", `{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v0.2"}`, map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}),
		m.layer("application/vnd.in-toto+json", statement, map[string]string{"in-toto.io/predicate-type": predicate}),
	}})
	return m.put(map[string]any{"mediaType": containers.TypeOCIIndex, "manifests": []any{
		map[string]any{"digest": image, "size": 1},
		map[string]any{"digest": attestation, "size": 1, "annotations": map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": string(image)}},
	}})
}

func spdx(name string) string {
	return fmt.Sprintf(`{"spdxVersion": "SPDX-2.3", "name": %q}`, name)
}

func statement(image containers.Digest, predicate string) string {
	return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","subject":[{"name":"pkg:docker/web","digest":{"sha256":%q}}],"predicate":%s}`, image.Hex(), predicate)
}

const cycloneDX = `{"bomFormat":"CycloneDX","specVersion":"1.5"}`

func TestABillOfMaterialsIsFoundWhereItIsAttached(t *testing.T) {
	image := containers.DigestOf([]byte("image"))
	for _, test := range []struct {
		name   string
		attach func(m *memory) (index containers.Digest)
		data   string
		source string
	}{
		{"cosign's tag", func(m *memory) containers.Digest {
			m.put(map[string]any{"layers": []any{m.layer("text/spdx+json", spdx("tag"), nil)}}, attached.Tag(image, "sbom"))
			return ""
		}, spdx("tag"), "tag sha256-" + image.Hex() + ".sbom"},
		{"cosign's tag of the index", func(m *memory) containers.Digest {
			index := m.put(map[string]any{"mediaType": containers.TypeOCIIndex, "manifests": []any{}})
			m.put(map[string]any{"layers": []any{m.layer("text/spdx+json", spdx("index"), nil)}}, attached.Tag(index, "sbom"))
			return index
		}, spdx("index"), "tag sha256-"},
		{"CycloneDX", func(m *memory) containers.Digest {
			m.put(map[string]any{"layers": []any{m.layer("application/vnd.cyclonedx+json", cycloneDX, nil)}}, attached.Tag(image, "sbom"))
			return ""
		}, cycloneDX, "tag"},
		{"SPDX before CycloneDX", func(m *memory) containers.Digest {
			m.put(map[string]any{"layers": []any{m.layer("application/vnd.cyclonedx+json", cycloneDX, nil), m.layer("text/spdx+json", spdx("second"), nil)}}, attached.Tag(image, "sbom"))
			return ""
		}, spdx("second"), "tag"},
		{"referrer", func(m *memory) containers.Digest {
			m.refer(image, "application/vnd.example+json", m.layer("application/vnd.example+json", "{}", nil))
			m.refer(image, "application/spdx+json", m.layer("application/spdx+json", spdx("referrer"), nil))
			m.put(map[string]any{"layers": []any{m.layer("text/spdx+json", spdx("tag"), nil)}}, attached.Tag(image, "sbom"))
			return ""
		}, spdx("referrer"), "referrer sha256:"},
		{"referrer whose layer has no type of its own", func(m *memory) containers.Digest {
			m.refer(image, "application/spdx+json", m.layer("application/octet-stream", spdx("untyped"), nil))
			return ""
		}, spdx("untyped"), "referrer sha256:"},
		{"BuildKit", func(m *memory) containers.Digest {
			m.refer(image, "application/spdx+json", m.layer("application/spdx+json", spdx("referrer"), nil))
			return m.index(image, statement(image, spdx("buildkit")), "https://spdx.dev/Document")
		}, spdx("buildkit"), "attestation sha256:"},
		{"BuildKit's of provenance alone", func(m *memory) containers.Digest {
			m.refer(image, "application/spdx+json", m.layer("application/spdx+json", spdx("referrer"), nil))
			return m.index(image, "{}", "https://slsa.dev/provenance/v1")
		}, spdx("referrer"), "referrer sha256:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMemory()
			index := test.attach(m)
			sbom, err := attached.FindSBOM(context.Background(), attached.Repository{Source: m, Name: repository}, image, index)
			if err != nil {
				t.Fatal(err)
			}
			if string(sbom.Data) != test.data || sbom.Digest != containers.DigestOf(sbom.Data) || !strings.HasPrefix(sbom.Source, test.source) {
				t.Errorf("%+v: %s", sbom, sbom.Data)
			}
			if want := attached.TypeSPDX; (test.data == cycloneDX) == (sbom.MediaType == want) {
				t.Errorf("media type %s", sbom.MediaType)
			}
		})
	}
}

func TestWhatIsNoBillOfMaterialsOfTheImage(t *testing.T) {
	image, other := containers.DigestOf([]byte("image")), containers.DigestOf([]byte("other"))
	for _, test := range []struct {
		name   string
		attach func(m *memory) (index containers.Digest)
		want   error
	}{
		{"nothing", func(*memory) containers.Digest { return "" }, attached.ErrNotFound},
		{"a tag with something else", func(m *memory) containers.Digest {
			m.put(map[string]any{"layers": []any{m.layer("text/plain", "x", nil)}}, attached.Tag(image, "sbom"))
			return ""
		}, attached.ErrNotFound},
		{"called SPDX", func(m *memory) containers.Digest {
			m.refer(image, "application/spdx+json", m.layer("application/spdx+json", "{}", nil))
			return ""
		}, attached.ErrFormat},
		{"a blob that is not its digest's", func(m *memory) containers.Digest {
			m.refer(image, "application/spdx+json", m.layer("application/spdx+json", spdx("x"), nil))
			m.blobs[containers.DigestOf([]byte(spdx("x")))] = []byte(spdx("y"))
			return ""
		}, attached.ErrFormat},
		{"too large", func(m *memory) containers.Digest {
			m.refer(image, "application/spdx+json", map[string]any{"mediaType": "application/spdx+json", "digest": other, "size": int64(1) << 40})
			return ""
		}, attached.ErrFormat},
		{"a statement about another image", func(m *memory) containers.Digest {
			return m.index(image, statement(other, spdx("x")), "https://spdx.dev/Document")
		}, attached.ErrFormat},
		{"no statement", func(m *memory) containers.Digest {
			return m.index(image, spdx("x"), "https://spdx.dev/Document")
		}, attached.ErrFormat},
		{"another index", func(m *memory) containers.Digest {
			index := m.index(image, statement(image, spdx("x")), "https://spdx.dev/Document")
			m.manifests[string(index)] = []byte("{}")
			return index
		}, attached.ErrFormat},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMemory()
			index := test.attach(m)
			sbom, err := attached.FindSBOM(context.Background(), attached.Repository{Source: m, Name: repository}, image, index)
			if !errors.Is(err, test.want) {
				t.Errorf("%+v, %v; want %v", sbom, err, test.want)
			}
		})
	}
}

func TestTheAnswerDoesNotFollowTheOrderOfReferrers(t *testing.T) {
	image := containers.DigestOf([]byte("image"))
	var found []string
	for _, names := range [][]string{{"a", "b", "c"}, {"c", "b", "a"}} {
		m := newMemory()
		for _, name := range names {
			m.refer(image, "application/spdx+json", m.layer("application/spdx+json", spdx(name), nil))
		}
		sbom, err := attached.FindSBOM(context.Background(), attached.Repository{Source: m, Name: repository}, image, "")
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, string(sbom.Data))
	}
	if found[0] != found[1] {
		t.Errorf("%q", found)
	}
}

func FuzzReadDocument(f *testing.F) {
	f.Add([]byte(`{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":3}]}`))
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"x"}}],"predicate":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := attached.ReadDocument(data)
		if err == nil {
			for _, e := range d.Entries {
				if _, err := containers.ParseDigest(string(e.Digest)); err != nil || e.Size < 0 {
					t.Fatalf("%+v", e)
				}
			}
		} else if !errors.Is(err, attached.ErrFormat) {
			t.Fatal(err)
		}
		if _, err := attached.ReadStatement(data); err != nil && !errors.Is(err, attached.ErrFormat) {
			t.Fatal(err)
		}
	})
}
