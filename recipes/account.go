package recipes

// A User is an account of the appliance.
type User struct {
	Name     string   `json:"name" doc:"Login name. root may be named to give it keys or a password." required:"true" pattern:"^[a-z_][a-z0-9_-]{0,31}$" want:"use up to 32 lower-case letters, digits, hyphens and underscores, beginning with a letter or underscore" example:"admin"`
	UID      *int     `json:"uid,omitempty" doc:"Number of the user, and of the group of the same name." minimum:"0" maximum:"60000" default:"the next free one from 1000 up, or from 999 down for a system user"`
	Groups   []string `json:"groups,omitempty" doc:"Further groups the user is in. They must exist, from a package or base system." merge:"append" scalar:"true" pattern:"^[a-z_][a-z0-9_-]{0,31}$" want:"write a group's name" example:"adm"`
	Shell    string   `json:"shell" doc:"Absolute path of the login shell." default:"/bin/bash, or /usr/sbin/nologin for a system user" example:"/bin/bash"`
	Home     string   `json:"home" doc:"Absolute path of the home folder." default:"/home/NAME, /root for root, or / without a folder being made for a system user" example:"/home/admin"`
	SSHKeys  []string `json:"ssh_keys,omitempty" doc:"Public keys that may log in, a line of an authorized_keys file each." merge:"append" scalar:"true" example:"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPl6BQoVbpd1ikWnKUV7jnoq0TjGtuyhmmmkhW7Zt9sl admin@example.com"`
	Password string   `json:"password,omitempty" doc:"Hash of the password in crypt(5) form, as mkpasswd -m yescrypt or openssl passwd -6 prints it. Never the password itself." default:"none: no password opens the account" pattern:"^([$](y|gy|7|6|5|2b|2y)[$][!-9;-~]+|[!*])$" want:"write the hash that mkpasswd -m yescrypt or openssl passwd -6 prints, never the password itself" secret:"true" example:"$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"`
	Sudo     Sudo     `json:"sudo" doc:"Whether the user may run everything as root with sudo: true asks for the user's password, nopasswd does not. The package sudo must be installed." enum:"true,false,nopasswd" default:"false"`
	System   bool     `json:"system" doc:"A user for a service rather than a person: a number below 1000, no home folder is made, no login shell." default:"false"`
}

// Sudo says whether a user may become root.
type Sudo string

// The values of [User.Sudo].
const (
	SudoNo         Sudo = ""
	SudoPassword   Sudo = "password"
	SudoNoPassword Sudo = "nopasswd"
)

// A File is something put into the root file system. Exactly one of Content, Source, Directory and Link is given.
type File struct {
	Path      string  `json:"path" doc:"Absolute path in the appliance. Missing folders on the way are made." required:"true" example:"/etc/motd"`
	Content   *string `json:"content,omitempty" doc:"The file's contents." example:"Welcome.\n"`
	Source    string  `json:"source,omitempty" doc:"File or folder to copy, relative to this recipe. A folder is copied with all that is in it, onto a folder that may be there already." example:"files/motd"`
	Directory bool    `json:"directory,omitempty" doc:"Make a folder." default:"false"`
	Link      string  `json:"link,omitempty" doc:"Make a symbolic link with this target." example:"../run/motd"`
	Mode      *Mode   `json:"mode,omitempty" doc:"Permissions in octal digits. Files in a folder given as source have 0644, or 0755 where their owner may execute them." pattern:"^(0o)?[0-7]{3,5}$" want:"write octal digits such as 0644" default:"0644, 0755 for folders and for a source that its owner may execute" example:"0644" number:"true"`
	Owner     Owner   `json:"owner" doc:"Owner as USER:GROUP, by name or number; USER alone is that user with its own group." pattern:"^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})(:([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}))?$" want:"write USER:GROUP, such as root:root or 1000:1000" default:"root:root" example:"www-data:www-data" number:"true"`

	SourceFile string `json:"-"` // Source as a path to open
}

// An Owner is a user and a group, each by name or by decimal number.
type Owner struct {
	User  string
	Group string // empty: the user's own
}
