package cidata

import (
	"encoding/base64"
	"fmt"

	"github.com/applbuild/applbuild/cidata/userdata"
)

// MaxEC2 is how many bytes of user data EC2 takes, before base64 (EC2 User Guide, "Instance user data").
const MaxEC2 = 16384

// EC2Sizes are the sizes of user-data, in bytes.
type EC2Sizes struct {
	Raw    int `json:"raw"`
	Gzip   int `json:"gzip"`   // cloud-init unpacks it by itself
	Base64 int `json:"base64"` // of the smaller of the two, as the API takes it
}

// EC2 returns the sizes of user-data for EC2.
func (s *Seed) EC2() (EC2Sizes, error) {
	data, _ := s.File(UserData)
	packed, err := userdata.Gzip(data)
	if err != nil {
		return EC2Sizes{}, err
	}
	return EC2Sizes{len(data), len(packed), base64.StdEncoding.EncodedLen(min(len(data), len(packed)))}, nil
}

func (l *loader) checkEC2(seed *Seed) {
	if _, ok := seed.File(NetworkConfig); ok {
		l.warn(l.top, "EC2 has no network-config of a seed", "leave it out: the instance's metadata configure the network")
	}
	sizes, err := seed.EC2()
	switch {
	case err != nil:
		l.problems = append(l.problems, &Error{Position: l.top, What: err.Error(), Err: err})
	case min(sizes.Raw, sizes.Gzip) > MaxEC2:
		l.problems = append(l.problems, &Error{Position: l.top, Err: ErrTooLarge,
			What: fmt.Sprintf("user-data has %d bytes, %d when gzip'ed; EC2 takes %d", sizes.Raw, sizes.Gzip, MaxEC2),
			Do:   "put large files elsewhere and #include them"})
	case sizes.Raw > MaxEC2:
		l.warn(l.top, fmt.Sprintf("user-data has %d bytes, EC2 takes %d", sizes.Raw, MaxEC2), fmt.Sprintf("give it gzip'ed: %d bytes", sizes.Gzip))
	}
}
