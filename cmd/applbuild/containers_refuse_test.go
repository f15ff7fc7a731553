package main

import (
	"archive/tar"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/applbuild/applbuild/builder/containers"
)

// A refusal is an image that does not get onto a disk.
type refusal struct {
	name    string
	prepare func(t testing.TB, h *hub, d *tiny) // after the image was pushed
	recipe  string                              // below containers; HOST is the registry's
	args    []string
	words   []string // of the error
	// locked says that the image can be pinned, and only its layers are missing.
	locked bool
}

const theImage = "  images: [\"HOST/shop/web:1\"]\n"

// An image that cannot be had, or is not what it should be, is refused with one
// line that names it and where it was to come from, and leaves nothing.
func TestContainersAreRefused(t *testing.T) {
	fault := func(part string, handler func(h *hub) http.HandlerFunc) func(testing.TB, *hub, *tiny) {
		return func(_ testing.TB, h *hub, _ *tiny) { h.when(part, handler(h)) }
	}
	is := func(f http.HandlerFunc) func(*hub) http.HandlerFunc {
		return func(*hub) http.HandlerFunc { return f }
	}
	damage := func(h *hub) http.HandlerFunc { return h.damage }
	cutOff := func(h *hub) http.HandlerFunc { return h.cutOff }
	write := func(name, text string) func(testing.TB, *hub, *tiny) {
		return func(t testing.TB, h *hub, d *tiny) {
			writeFile(t, d.dir, name, strings.ReplaceAll(text, "HOST", h.host()))
		}
	}
	layer := string(containers.DigestOf(gzipped(t, onePage(t))))
	for _, c := range []refusal{
		{name: "unknown tag", recipe: "  images: [\"HOST/shop/web:2\"]\n", words: []string{"tiny.yml:10:", "registry HOST", "shop/web:2", "not found", "check the name"}},
		{name: "unauthorized", prepare: fault("/v2/", is(status(401))), words: []string{"tiny.yml:10:", "registry HOST", "shop/web:1", "access denied", "podman login"}},
		{name: "forbidden", prepare: fault("/manifests/", is(status(403))), words: []string{"registry HOST", "shop/web:1", "access denied"}},
		{name: "manifest of another digest", prepare: fault("/manifests/", damage), words: []string{"registry HOST", "shop/web:1", "wrong digest", "push it again"}},
		{name: "layer of another digest", prepare: fault("/blobs/"+layer, damage), locked: true,
			words: []string{"registry HOST", "shop/web:1", layer, "wrong digest", "push it again"}},
		{name: "layer cut off every time", prepare: fault("/blobs/"+layer, cutOff), locked: true, words: []string{"registry HOST", "shop/web:1", layer, "ended early"}},
		{name: "another platform", recipe: "  images: [{ref: \"HOST/shop/web:1\", platform: linux/arm64}]\n",
			words: []string{"HOST/shop/web:1", "another platform", "linux/arm64 is wanted", "linux/amd64"}},
		{name: "registry that hangs", prepare: fault("/v2/", is(hang)), args: []string{"--registry-timeout", "300ms"},
			words: []string{"registry HOST", "shop/web:1", "no answer in time", "nothing came for 300ms"}},
		{name: "layer that hangs", prepare: fault("/blobs/"+layer, is(hang)), args: []string{"--registry-timeout", "300ms"}, locked: true,
			words: []string{"registry HOST", "shop/web:1", layer, "no answer in time"}},
		{name: "archive of two images", recipe: "  images: [{layout: two.tar}]\n", prepare: func(t testing.TB, _ *hub, d *tiny) {
			writeFile(t, d.dir, "two.tar", string(dockerArchive(t)))
		}, words: []string{"tiny.yml:10:", "two.tar", "more than one image", "one:1", "two:1"}, locked: true},
		{name: "layout that is missing", recipe: "  images: [{layout: none.tar}]\n", words: []string{"tiny.yml:10:", "none.tar", "no such file"}, locked: true},
		{name: "image that is not on the disk", recipe: theImage + "  run: [{name: web, image: \"HOST/shop/db:1\"}]\n",
			words: []string{"tiny.yml:11:", "HOST/shop/db:1", "images"}},
		{name: "unknown registry", recipe: "  images: [\"registry.invalid/shop/web:1\"]\n", words: []string{"tiny.yml:10:", "registry.invalid", "shop/web:1", "unreachable", "not known"}},
		{name: "quadlet of another image", recipe: theImage + "  quadlets: q\n", prepare: write("q/db.container", "[Container]\nImage=HOST/shop/db:1\n"),
			words: []string{"db.container:2", "HOST/shop/db:1", "not on the disk"}},
		{name: "not signed", recipe: theImage + "  verify: {keys: key.pub}\n", prepare: func(t testing.TB, _ *hub, d *tiny) {
			writeFile(t, d.dir, "key.pub", newSigner(t).public(t))
		}, words: []string{"tiny.yml:10:", "HOST/shop/web:1", "not signed", "cosign sign"}},
		{name: "signed by another", recipe: theImage + "  verify: {keys: key.pub}\n", prepare: func(t testing.TB, h *hub, d *tiny) {
			newSigner(t).sign(t, h, "shop/web", theDigest(t, h))
			writeFile(t, d.dir, "key.pub", newSigner(t).public(t))
		}, words: []string{"tiny.yml:10:", "HOST/shop/web:1", "signature rejected", "have it signed"}},
		{name: "no key", recipe: theImage + "  verify: {keys: key.pub}\n", prepare: write("key.pub", "no key\n"),
			words: []string{"tiny.yml:10:", "key.pub", "BEGIN PUBLIC KEY"}},
		{name: "negative time", args: []string{"--registry-timeout", "-1s"}, words: []string{"--registry-timeout"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.check(t)
		})
	}
}

func (c refusal) check(t *testing.T) {
	h := newHub(t)
	compressed := gzipped(t, layerOf(t, file("srv/index.html", "welcome\n")))
	layer := string(containers.DigestOf(compressed))
	h.push(t, "shop/web", "1", "amd64", layerOf(t, file("srv/index.html", "welcome\n")))
	filled := strings.NewReplacer("HOST", h.host(), layer, layer)
	recipe := c.recipe
	if recipe == "" {
		recipe = theImage
	}
	d := newTiny(t, "containers:\n"+filled.Replace(recipe), runtimeOf(t))
	if c.prepare != nil {
		c.prepare(t, h, d)
	}
	r := d.image(t, c.args...)
	var words []string
	for _, word := range c.words {
		words = append(words, filled.Replace(word))
	}
	r.fails(t, words...)
	oneClearLine(t, d, r)
	nothingLeft(t, d.store, d.out)
	if text := d.lockText(t); text != "" && !c.locked {
		t.Errorf("a lock was written:\n%s", text)
	}
}

// onePage is a layer of one file.
func onePage(t testing.TB) []byte {
	t.Helper()
	return layerOf(t, file("srv/index.html", "welcome\n"))
}

// theDigest is that of the image under shop/web:1.
func theDigest(t testing.TB, h *hub) containers.Digest {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+h.host()+"/v2/shop/web/manifests/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	a := h.answer(r)
	return containers.DigestOf(a.Body.Bytes())
}

// A signer signs images as cosign does.
type signer struct{ *ecdsa.PrivateKey }

func newSigner(t testing.TB) signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{k}
}

func (s signer) public(t testing.TB) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(s.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// sign puts a signature of an image beside it.
func (s signer) sign(t testing.TB, h *hub, repository string, digest containers.Digest) {
	t.Helper()
	payload := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`,
		h.host()+"/"+repository, digest)
	sum := sha256.Sum256(payload)
	signature, err := ecdsa.SignASN1(rand.Reader, s.PrivateKey, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	layer := h.blob(t, repository, "application/vnd.dev.cosign.simplesigning.v1+json", payload)
	layer["annotations"] = map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signature)}
	h.manifest(t, repository, "sha256-"+digest.Hex()+".sig", encode(t, object{
		"schemaVersion": 2, "mediaType": containers.TypeOCIManifest,
		"config": h.blob(t, repository, containers.TypeOCIConfig, []byte("{}")), "layers": []any{layer},
	}))
}

// An image that is signed by one of the keys is taken, and the lock says by
// which.
func TestContainersThatAreSignedAreTaken(t *testing.T) {
	h := newHub(t)
	digest := h.push(t, "shop/web", "1", "amd64", onePage(t))
	mine := newSigner(t)
	mine.sign(t, h, "shop/web", digest)
	d := newTiny(t, strings.ReplaceAll("containers:\n"+theImage+"  verify: {keys: [other.pub, key.pub]}\n", "HOST", h.host()), runtimeOf(t))
	writeFile(t, d.dir, "key.pub", mine.public(t))
	writeFile(t, d.dir, "other.pub", newSigner(t).public(t))
	applbuild(t, "fetch", d.recipe, "--store", d.store).succeeds(t)
	if l := readLock(t, d); len(l.Containers) != 1 || len(l.Containers[0].SignedBy) != 1 || l.Containers[0].Verify == "" {
		t.Errorf("the lock has %+v", l.Containers)
	}
}

// A registry that is not this machine itself is spoken to in plain HTTP only when
// the recipe names it.
func TestContainersOverPlainHTTPAreAllowedByName(t *testing.T) {
	h := newHub(t)
	h.push(t, "shop/web", "1", "amd64", onePage(t))
	outside := httptest.NewUnstartedServer(h)
	outside.Listener.Close()
	outside.Listener = elsewhere(t)
	outside.Start()
	defer outside.Close()
	host := outside.Listener.Addr().String()
	name := host + "/shop/web:1"
	d := newTiny(t, "containers:\n  images: [\""+name+"\"]\n", runtimeOf(t))
	r := d.image(t)
	r.fails(t, "tiny.yml:10:", "registry "+host, "plain HTTP is not allowed", "plain_http")
	oneClearLine(t, d, r)
	nothingLeft(t, d.store, d.out)
	applbuild(t, "fetch", d.recipe, "--store", d.store, "--set", "containers.plain_http=["+host+"]").succeeds(t)
}

// elsewhere listens on an address of this machine that others reach, too.
func elsewhere(t testing.TB) net.Listener {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		ip, ok := a.(*net.IPNet)
		if !ok || ip.IP.IsLoopback() || ip.IP.To4() == nil {
			continue
		}
		if l, err := net.Listen("tcp", net.JoinHostPort(ip.IP.String(), "0")); err == nil {
			return l
		}
	}
	t.Skip("SKIPPED: an address that is not the loopback's is missing, for a registry that is not localhost")
	return nil
}

// dockerArchive is what docker save writes of two images.
func dockerArchive(t testing.TB) []byte {
	t.Helper()
	layer := onePage(t)
	config := encode(t, object{
		"os": "linux", "architecture": "amd64", "config": object{},
		"rootfs": object{"type": "layers", "diff_ids": []containers.Digest{containers.DigestOf(layer)}},
	})
	image := func(name string) object {
		return object{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}
	}
	return layerOf(t,
		member{tar.Header{Name: "manifest.json", Mode: 0o644}, string(encode(t, []object{image("one:1"), image("two:1")}))},
		file("config.json", string(config)), file("layer.tar", string(layer)))
}
