package xz

import "encoding/binary"

// lzma is the state of an LZMA decoder between two chunks.
type lzma struct {
	probs      probs
	lc         uint32 // bits of the byte before that choose the literal coder
	lpMask     uint32 // and of the position
	pbMask     uint32 // bits of the position that make the position state
	state      uint32
	rep0, rep1 uint32 // distances less one of the last four matches
	rep2, rep3 uint32
	dictSize   uint32 // bytes
}

// setProps takes the byte of lc, lp and pb.
func (d *lzma) setProps(b byte) error {
	if b >= 9*5*5 {
		return formatError("LZMA properties of %d", b)
	}
	lc, lp, pb := b%9, b/9%5, b/45
	if lc+lp > 4 {
		return formatError("LZMA2 with lc %d and lp %d", lc, lp)
	}
	d.lc, d.lpMask, d.pbMask = uint32(lc), 1<<lp-1, 1<<pb-1
	return nil
}

// reset begins a new state with the properties set.
func (d *lzma) reset() {
	d.state, d.rep0, d.rep1, d.rep2, d.rep3 = 0, 0, 0, 0, 0
	d.probs.reset(int(d.lpMask+1) << d.lc)
}

// bit takes one bit of probability v off the range coder, without a branch:
// it is for bits that cannot be foreseen, whose branches would be mispredicted
// every third time. It returns the range, the code, the new probability and
// the bit; the range is not normalized.
func bit(rng, code, v uint64) (uint64, uint64, uint16, uint32) {
	bound := (rng >> probBits) * v
	code -= bound
	zero := uint64(int64(code) >> 63) // all ones when the bit is zero
	rng -= bound
	rng ^= (rng ^ bound) & zero
	code += bound & zero
	v += uint64(int64((1<<moveBits-1)+zero&(probMax-1<<moveBits+1)-v) >> moveBits)
	return rng, code, uint16(v), uint32(zero) + 1
}

// normalize takes another byte in when the range has become small.
func normalize(rng, code uint64, in []byte, ip int) (uint64, uint64, int) {
	if rng < topValue {
		return rng << 8, code<<8 | uint64(in[ip]), ip + 1
	}
	return rng, code, ip
}

// decode decodes one chunk: the range coder's bytes in[:n], which inPad bytes
// follow, to out[pos:end], which outPad bytes follow. The dictionary is
// out[start:pos]; start is below zero when its beginning has left the window.
//
// It is one long function because the range, the code and both positions are
// then in registers all along; whatever is called is inlined.
func (d *lzma) decode(out []byte, start, pos, end int, in []byte, n int) error {
	if in[0] != 0 {
		return errFirstByte
	}
	rng, code, ip := uint64(0xffffffff), uint64(binary.BigEndian.Uint32(in[1:])), 5
	p := &d.probs
	state, rep0, rep1, rep2, rep3 := d.state, d.rep0, d.rep1, d.rep2, d.rep3
	lc, lpMask, pbMask := d.lc&15, d.lpMask, d.pbMask
	var prev uint32
	if pos > start {
		prev = uint32(out[pos-1])
	}
	for pos < end {
		if ip > n {
			return errData
		}
		posState := uint32(pos-start) & pbMask & 15
		pr := &p.isMatch[(state<<4|posState)&0xff]
		v := uint64(*pr)
		bound := (rng >> probBits) * v
		if code < bound {
			rng = bound
			*pr = uint16(v + (probMax-v)>>moveBits)
			rng, code, ip = normalize(rng, code, in, ip)
			at := (uint32(pos-start)&lpMask<<lc + prev>>(8-lc)) * litSize
			lit := (*[0x400]uint16)(p.literal[at:])
			sym := uint32(1)
			if state < 7 {
				for sym < 0x100 {
					var b uint32
					rng, code, lit[sym&0xff], b = bit(rng, code, uint64(lit[sym&0xff]))
					sym = sym<<1 | b
					rng, code, ip = normalize(rng, code, in, ip)
				}
			} else {
				match := uint32(out[pos-int(rep0)-1])
				offset := uint32(0x100)
				for sym < 0x100 {
					match <<= 1
					hit := match & offset
					i := (offset + hit + sym) & 0x3ff
					var b uint32
					rng, code, lit[i], b = bit(rng, code, uint64(lit[i]))
					sym = sym<<1 | b
					offset &= hit ^ (b - 1)
					rng, code, ip = normalize(rng, code, in, ip)
				}
			}
			prev = sym & 0xff
			out[pos] = byte(sym)
			pos++
			state = uint32(nextLiteral[state&15])
			continue
		}
		rng -= bound
		code -= bound
		*pr = uint16(v - v>>moveBits)
		rng, code, ip = normalize(rng, code, in, ip)

		pr = &p.isRep[state&15]
		v = uint64(*pr)
		bound = (rng >> probBits) * v
		var lens *lenProbs
		if code < bound { // a match with its own distance
			rng = bound
			*pr = uint16(v + (probMax-v)>>moveBits)
			rng, code, ip = normalize(rng, code, in, ip)
			rep1, rep2, rep3 = rep0, rep1, rep2
			lens = &p.match
		} else {
			rng -= bound
			code -= bound
			*pr = uint16(v - v>>moveBits)
			rng, code, ip = normalize(rng, code, in, ip)
			lens = &p.rep
			pr = &p.isRepG0[state&15]
			v = uint64(*pr)
			bound = (rng >> probBits) * v
			if code < bound {
				rng = bound
				*pr = uint16(v + (probMax-v)>>moveBits)
				rng, code, ip = normalize(rng, code, in, ip)
				pr = &p.isRep0Long[(state<<4|posState)&0xff]
				v = uint64(*pr)
				bound = (rng >> probBits) * v
				if code < bound { // one byte
					rng = bound
					*pr = uint16(v + (probMax-v)>>moveBits)
					rng, code, ip = normalize(rng, code, in, ip)
					if int(rep0) >= pos-start || rep0 >= d.dictSize {
						return errData
					}
					c := out[pos-int(rep0)-1]
					out[pos] = c
					prev = uint32(c)
					pos++
					state = afterMatch(state, 9, 11)
					continue
				}
				rng -= bound
				code -= bound
				*pr = uint16(v - v>>moveBits)
				rng, code, ip = normalize(rng, code, in, ip)
			} else {
				rng -= bound
				code -= bound
				*pr = uint16(v - v>>moveBits)
				rng, code, ip = normalize(rng, code, in, ip)
				var b uint32
				rng, code, p.isRepG1[state&15], b = bit(rng, code, uint64(p.isRepG1[state&15]))
				rng, code, ip = normalize(rng, code, in, ip)
				if b == 0 {
					rep0, rep1 = rep1, rep0
				} else {
					rng, code, p.isRepG2[state&15], b = bit(rng, code, uint64(p.isRepG2[state&15]))
					rng, code, ip = normalize(rng, code, in, ip)
					if b == 0 {
						rep0, rep1, rep2 = rep2, rep0, rep1
					} else {
						rep0, rep1, rep2, rep3 = rep3, rep0, rep1, rep2
					}
				}
			}
		}

		// The length.
		var length int
		v = uint64(lens.choice)
		bound = (rng >> probBits) * v
		var tree *[8]uint16
		if code < bound {
			rng = bound
			lens.choice = uint16(v + (probMax-v)>>moveBits)
			rng, code, ip = normalize(rng, code, in, ip)
			tree = (*[8]uint16)(lens.low[posState<<3:])
			length = minMatch - 8
		} else {
			rng -= bound
			code -= bound
			lens.choice = uint16(v - v>>moveBits)
			rng, code, ip = normalize(rng, code, in, ip)
			v = uint64(lens.choice2)
			bound = (rng >> probBits) * v
			if code < bound {
				rng = bound
				lens.choice2 = uint16(v + (probMax-v)>>moveBits)
				rng, code, ip = normalize(rng, code, in, ip)
				tree = (*[8]uint16)(lens.mid[posState<<3:])
				length = minMatch
			} else {
				rng -= bound
				code -= bound
				lens.choice2 = uint16(v - v>>moveBits)
				rng, code, ip = normalize(rng, code, in, ip)
				sym := uint32(1)
				for sym < 0x100 {
					var b uint32
					rng, code, lens.high[sym&0xff], b = bit(rng, code, uint64(lens.high[sym&0xff]))
					sym = sym<<1 | b
					rng, code, ip = normalize(rng, code, in, ip)
				}
				length = minMatch + 16 - 0x100 + int(sym)
			}
		}
		if tree != nil {
			sym := uint32(1)
			for sym < 8 {
				var b uint32
				rng, code, tree[sym&7], b = bit(rng, code, uint64(tree[sym&7]))
				sym = sym<<1 | b
				rng, code, ip = normalize(rng, code, in, ip)
			}
			length += int(sym)
		}

		// The distance.
		if lens == &p.match {
			state = afterMatch(state, 7, 10)
			slots := &p.slot[min(length-minMatch, 3)&3]
			slot := uint32(1)
			for slot < 64 {
				var b uint32
				rng, code, slots[slot&63], b = bit(rng, code, uint64(slots[slot&63]))
				slot = slot<<1 | b
				rng, code, ip = normalize(rng, code, in, ip)
			}
			slot -= 64
			rep0 = slot
			if slot >= 4 {
				direct := slot>>1 - 1
				rep0 = 2 | slot&1
				if slot < 14 {
					rep0 <<= direct
					base := rep0 - slot // the tree's, whose root is at 1
					sym := uint32(1)
					for i := uint32(0); i < direct; i++ {
						var b uint32
						at := (base + sym) & 127
						rng, code, p.special[at], b = bit(rng, code, uint64(p.special[at]))
						sym = sym<<1 | b
						rep0 |= b << (i & 15)
						rng, code, ip = normalize(rng, code, in, ip)
					}
				} else {
					for range direct - 4 {
						rng >>= 1
						code -= rng
						zero := uint64(int64(code) >> 63)
						code += rng & zero
						rep0 = rep0<<1 + uint32(zero) + 1
						rng, code, ip = normalize(rng, code, in, ip)
					}
					rep0 <<= 4
					sym := uint32(1)
					for i := uint32(0); i < 4; i++ {
						var b uint32
						rng, code, p.align[sym&15], b = bit(rng, code, uint64(p.align[sym&15]))
						sym = sym<<1 | b
						rep0 |= b << (i & 15)
						rng, code, ip = normalize(rng, code, in, ip)
					}
				}
			}
		} else {
			state = afterMatch(state, 8, 11)
		}

		// The match. Whole words are copied, past its end if need be.
		if int(rep0) >= pos-start || rep0 >= d.dictSize || length > end-pos {
			return errData
		}
		dist := int(rep0) + 1
		to := pos
		pos += length
		if dist < 8 {
			for stop := min(to+8, pos); to < stop; to++ {
				out[to] = out[to-dist]
			}
			dist *= (7 + dist) / dist // a multiple of eight or more repeats alike
		} else if length >= 64 && dist >= length {
			copy(out[to:pos], out[to-dist:])
			to = pos
		}
		for ; to < pos; to += 8 {
			binary.LittleEndian.PutUint64(out[to:], binary.LittleEndian.Uint64(out[to-dist:]))
		}
		prev = uint32(out[pos-1])
	}
	if ip != n || code != 0 {
		return errData
	}
	d.state, d.rep0, d.rep1, d.rep2, d.rep3 = state, rep0, rep1, rep2, rep3
	return nil
}
