// Package archivetest composes, signs and serves package archives for tests.
//
//	a := archivetest.New(t, "noble")
//	a.AddDeb("main", archivetest.Deb(t, "Package: hello\nVersion: 1\n"))
//	a.Publish()
//
// a.URL and a.Keyring then go into an archive.Source. Packages come as bytes or
// from a folder; keys are made for each archive. What goes wrong on the way from
// an archive to a client is asked for by Fail (a server's faults) and by the
// field Signature (a signer's). The archive is not meant to be large, nor served
// to anything but tests.
package archivetest
