package userdata

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/cidata/cloudinittest"
	"github.com/applbuild/applbuild/cidata/document"
)

// A cloudInitPart is a part as cloud-init sees it.
type cloudInitPart struct {
	Type string `json:"type"`
	Data []byte `json:"data"`
}

// ourParts takes user-data apart as cloud-init shows it: without what only holds other parts, and with one word for a
// part that is passed over.
func ourParts(data []byte) ([]string, error) {
	var parts []string
	problems := Walk(data, document.InFile("user-data"), func(p Part) {
		if p.Type != Archive {
			parts = append(parts, showPart(p.Type, p.Data))
		}
	})
	return parts, problems.Err()
}

func showPart(contentType string, data []byte) string {
	if contentType == "" || contentType == typePlain || contentType == "text/x-not-multipart" {
		contentType = "unknown"
	}
	return fmt.Sprintf("%s %q", contentType, data)
}

func TestUserDataComesApartAsInCloudInit(t *testing.T) {
	tree := cloudinittest.Find(t)
	inputs := [][]byte{joined(t)}
	for _, text := range messages() {
		inputs = append(inputs, []byte(text))
	}
	var lines []any
	for _, data := range slices.Clone(inputs) {
		packed, err := Gzip(data)
		if err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, packed)
	}
	for _, data := range inputs {
		lines = append(lines, data)
	}
	decoder := json.NewDecoder(tree.Run(t, "testdata/parts.py", lines...))
	for _, data := range inputs {
		var theirs []cloudInitPart
		if err := decoder.Decode(&theirs); err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, p := range theirs {
			want = append(want, showPart(p.Type, p.Data))
		}
		got, err := ourParts(data)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q comes apart as\n%s\n(%v), in cloud-init as\n%s", data, strings.Join(got, "\n"), err, strings.Join(want, "\n"))
		}
	}
}

// Whatever user-data holds: it comes apart within bounds, and each part has a place.
func FuzzWalk(f *testing.F) {
	for _, text := range messages() {
		f.Add([]byte(text))
	}
	f.Add(joined(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		size, parts := 0, 0
		problems := Walk(data, document.InFile("u"), func(p Part) {
			size += len(p.Data)
			parts++
			if at := p.At(1, 1); !strings.HasPrefix(at.File, "u") || at.Line < 1 {
				t.Fatalf("%q: the place of a part is %s", data, at)
			}
		})
		if size > maxUnfolded || parts > maxParts {
			t.Fatalf("%d bytes unfold to %d in %d parts", len(data), size, parts)
		}
		for _, p := range problems {
			if p.Position.File == "" || strings.Contains(p.Error(), "\n") {
				t.Fatalf("%q", p.Error())
			}
		}
	})
}

// messages are user-data as other tools make it.
func messages() []string {
	return []string{
		"#!/bin/sh\nprintf 'MIME-Version: 1.0\n\nhello\n' | sendmail\n",
		"From nobody Thu Jan  1 00:00:00 1970\nContent-Type: text/x-shellscript\nMIME-Version: 1.0\n\n#!/bin/sh\n",
		"#cloud-config\na: b\n", "\n\n  #Cloud-Config\na: b\n", "#!/bin/sh\n", "hello", "#cloud-boothook\nx\n", "#part-handler\n",
		"#cloud-config-archive\n- '#!/bin/sh'\n- content: 'a: b'\n  filename: x\n- type: text/x-shellscript\n  content: hello\n- content: !!binary aGVsbG8=\n  type: text/cloud-boothook\n",
		"## template: jinja\n#cloud-config\n{% if a %}\n",
		"Content-Type: text/cloud-config\nMIME-Version: 1.0\n\na: b\n",
		"Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\npreamble\n--X\nContent-Type: text/x-shellscript\n\n#cloud-config\na: b\n--X\n\n#!/bin/sh\n--X\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n#cloud-config=0Aa: b\n--X--\nepilogue\n",
		"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"X Y\"\r\n\r\n--X Y\r\nContent-Type: text/cloud-config\r\n\r\na: b\r\n--X Y--\r\n",
		"Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\n--X\nContent-Type: multipart/mixed; boundary=Y\n\n--Y\nContent-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n\nYTog\nYgo=\n--Y--\n\n--X\nContent-Type: application/x-gzip\nContent-Transfer-Encoding: base64\n\nH4sIAAAAAAACA1NW1E/KzNMvzuACAB2d+wQKAAAA\n--X--\n",
		"Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\n--X\nContent-Type: text/x-shellscript-per-boot\n\necho\n--X\nContent-Type: TEXT/Cloud-Config; charset=utf-8\n\na: b\n--X--\n",
	}
}
