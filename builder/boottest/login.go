package boottest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// loginRetry is how long is waited between attempts to log in: sshd may be about
// to start.
const loginRetry = time.Second

// ssh logs in and runs a command.
func (s *session) ssh(ctx context.Context, c SSHCheck, limit time.Duration) []string {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTooSlow)
	defer cancel()
	key := s.Key
	if c.Key != nil {
		var err error
		if key, err = ssh.ParsePrivateKey(c.Key); err != nil {
			return []string{"the private key cannot be read: " + err.Error()}
		}
	}
	if key == nil {
		return []string{"there is no key to log in with"}
	}
	for {
		client, conn, err := login(ctx, s.guest, c, key)
		if err == nil {
			defer conn.Close()
			return c.run(ctx, client, conn)
		}
		// A key that is refused will not be taken later.
		if strings.Contains(err.Error(), "unable to authenticate") {
			return []string{fmt.Sprintf("sshd refuses the key for %s: %v", c.User, err)}
		}
		pause(ctx, loginRetry)
		if ctx.Err() != nil {
			return []string{fmt.Sprintf("nobody could log in as %s through port %d: %v", c.User, c.Port, err)}
		}
	}
}

// login opens a connection. The host key is the machine's own, made at its first
// boot, and the way to it does not leave this host: there is nothing to compare it
// with, nor anybody in between.
func login(ctx context.Context, guest Guest, c SSHCheck, key ssh.Signer) (*ssh.Client, net.Conn, error) {
	conn, err := guest.Dial(ctx, c.Port)
	if err != nil {
		return nil, nil, err
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		conn.Close()
		return nil, nil, err
	}
	shaken, channels, requests, err := ssh.NewClientConn(conn, "machine", &ssh.ClientConfig{
		User: c.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return ssh.NewClient(shaken, channels, requests), conn, nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ bytes.Buffer }

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), DefaultKept-b.Len())])
	return len(p), nil
}

// run runs the check's command and judges it.
func (c SSHCheck) run(ctx context.Context, client *ssh.Client, conn net.Conn) []string {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	session, err := client.NewSession()
	if err != nil {
		return []string{"ssh: " + err.Error()}
	}
	defer session.Close()
	var stdout, stderr bounded
	session.Stdout, session.Stderr = &stdout, &stderr
	var a answer
	var exit *ssh.ExitError
	switch err := session.Run(c.Command); {
	case err == nil:
	case errors.As(err, &exit):
		a.status = exit.ExitStatus()
	case ctx.Err() != nil:
		a.timeout = true
	default:
		return []string{"ssh: " + err.Error()}
	}
	a.stdout, a.stderr = stdout.String(), stderr.String()
	return c.Expect.judge(c.Command, a)
}
