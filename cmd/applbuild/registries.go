package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/applbuild/applbuild/builder"
	"github.com/applbuild/applbuild/builder/containers/registry"
)

// registrySettings reads the credentials and mirrors that podman and docker use
// on this machine. Nothing of them gets into an image, the lock or a log.
func registrySettings(tokenFile string) (s builder.RegistrySettings, err error) {
	if s.Keychain, err = registry.LoadKeychain(registry.KeychainFiles{TokenFile: tokenFile, AuthFiles: authFiles()}, runHelper); err != nil {
		return s, err
	}
	s.Mirrors, err = registry.LoadMirrors(registriesFiles()...)
	return s, err
}

// authFiles are where podman and docker keep credentials, in the order in which
// podman looks (containers-auth.json(5)). The variable that names a file
// excludes all others, as it does there.
func authFiles() []string {
	if name := os.Getenv("REGISTRY_AUTH_FILE"); name != "" {
		return []string{name}
	}
	run := os.Getenv("XDG_RUNTIME_DIR")
	if run == "" {
		run = filepath.Join("/run/user", strconv.Itoa(os.Getuid()))
		if os.Getuid() == 0 {
			run = "/run"
		}
	}
	files := []string{filepath.Join(run, "containers", "auth.json")}
	if config, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(config, "containers", "auth.json"))
	}
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		files = append(files, filepath.Join(dir, "config.json"))
	} else if home, err := os.UserHomeDir(); err == nil {
		files = append(files, filepath.Join(home, ".docker", "config.json"))
	}
	return files
}

// registriesFiles are the files of containers-registries.conf(5): the user's in
// place of the system's, and the drop-ins of both.
func registriesFiles() []string {
	if name := os.Getenv("CONTAINERS_REGISTRIES_CONF"); name != "" {
		return []string{name}
	}
	const system = "/etc/containers"
	main, dropIns := filepath.Join(system, "registries.conf"), []string{filepath.Join(system, "registries.conf.d")}
	if config, err := os.UserConfigDir(); err == nil {
		own := filepath.Join(config, "containers", "registries.conf")
		if _, err := os.Stat(own); err == nil {
			main = own
		}
		dropIns = append(dropIns, filepath.Join(config, "containers", "registries.conf.d"))
	}
	files := []string{main}
	for _, dir := range dropIns {
		list, _ := filepath.Glob(filepath.Join(dir, "*.conf")) // sorted; the pattern is well-formed
		files = append(files, list...)
	}
	return files
}

// runHelper asks a credential helper of docker's for the credential of a server.
// What it prints is secret, so that an error says no more than which it was.
func runHelper(ctx context.Context, program, server string) ([]byte, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin, cmd.Stdout = strings.NewReader(server+"\n"), &out
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s: %w", program, err)
	}
	return out.Bytes(), nil
}
