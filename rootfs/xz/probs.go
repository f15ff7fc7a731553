package xz

const (
	probInit  = 1 << 10 // one half, of 1<<probBits
	probBits  = 11
	probMax   = 1 << probBits
	moveBits  = 5
	topValue  = 1 << 24 // below it the range takes another byte
	litSize   = 0x300   // probabilities of one literal coder
	minMatch  = 2
	numStates = 12 // below 7: after a literal
)

// lenProbs are the probabilities of the length of a match.
type lenProbs struct {
	choice, choice2 uint16
	low, mid        [16 << 3]uint16 // by position state
	high            [256]uint16
}

// probs are the probabilities of one LZMA state. Arrays are as large as the
// masks of their indexes, so that the compiler leaves bounds checks out.
type probs struct {
	isMatch    [16 << 4]uint16 // by state and position state
	isRep0Long [16 << 4]uint16
	isRep      [16]uint16 // by state
	isRepG0    [16]uint16
	isRepG1    [16]uint16
	isRepG2    [16]uint16
	slot       [4][64]uint16 // by length
	special    [128]uint16   // slots 4 to 13, each from its base
	align      [16]uint16
	match, rep lenProbs
	literal    [16*litSize + 0x100]uint16 // 0x400 can be sliced at each coder
}

func half(p []uint16) {
	for i := range p {
		p[i] = probInit
	}
}

func (l *lenProbs) reset() {
	l.choice, l.choice2 = probInit, probInit
	half(l.low[:])
	half(l.mid[:])
	half(l.high[:])
}

// reset sets all probabilities to one half; coders is the number of literal
// coders in use.
func (p *probs) reset(coders int) {
	half(p.isMatch[:])
	half(p.isRep0Long[:])
	half(p.isRep[:])
	half(p.isRepG0[:])
	half(p.isRepG1[:])
	half(p.isRepG2[:])
	for i := range p.slot {
		half(p.slot[i][:])
	}
	half(p.special[:])
	half(p.align[:])
	p.match.reset()
	p.rep.reset()
	half(p.literal[:coders*litSize])
}

// nextLiteral, and the three below it, are the states that follow a state
// after a literal, a match, a repeated match and a single repeated byte.
var nextLiteral = [16]uint8{0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 4, 5}

// afterMatch returns early where the state is after a literal, else late.
func afterMatch(state, early, late uint32) uint32 {
	if state < 7 {
		return early
	}
	return late
}
