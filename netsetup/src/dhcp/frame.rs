//! IPv4 and UDP headers: without an address, the kernel's UDP sockets cannot be used.

use std::net::Ipv4Addr;

use super::{CLIENT_PORT, SERVER_PORT};

const IP: usize = 20;
const UDP: usize = 8;
const PROTOCOL_UDP: u8 = 17;

/// The Internet checksum (RFC 1071) of parts; only the last may have an odd length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        let (pairs, rest) = part.as_chunks::<2>();
        sum += pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum::<u32>();
        sum += rest.first().map_or(0, |&byte| u32::from(byte) << 8);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// The pseudo header of a UDP checksum (RFC 768).
fn pseudo_header(from: [u8; 4], to: [u8; 4], length: u16) -> [u8; 12] {
    let [a, b, c, d] = from;
    let [e, f, g, h] = to;
    let [high, low] = length.to_be_bytes();
    [a, b, c, d, e, f, g, h, 0, PROTOCOL_UDP, high, low]
}

/// A broadcast packet from 0.0.0.0, from the client's port to the server's.
pub fn broadcast(payload: &[u8]) -> Vec<u8> {
    let (from, to) = (Ipv4Addr::UNSPECIFIED.octets(), Ipv4Addr::BROADCAST.octets());
    let udp_length = u16::try_from(UDP + payload.len()).unwrap_or(u16::MAX);
    let total = u16::try_from(IP + UDP + payload.len()).unwrap_or(u16::MAX);

    let mut ip = vec![0x45, 0];
    ip.extend_from_slice(&total.to_be_bytes());
    ip.extend_from_slice(&[0, 0, 0, 0, 64, PROTOCOL_UDP, 0, 0]);
    ip.extend_from_slice(&from);
    ip.extend_from_slice(&to);
    let sum = checksum(&[&ip]).to_be_bytes();
    ip.splice(10..12, sum);

    let mut udp = Vec::with_capacity(UDP);
    udp.extend_from_slice(&CLIENT_PORT.to_be_bytes());
    udp.extend_from_slice(&SERVER_PORT.to_be_bytes());
    udp.extend_from_slice(&udp_length.to_be_bytes());
    let sum = checksum(&[&pseudo_header(from, to, udp_length), &udp, &[0, 0], payload]);
    // A sum of zero is sent as 0xffff: zero means "no checksum" (RFC 768).
    udp.extend_from_slice(&(if sum == 0 { 0xffff } else { sum }).to_be_bytes());

    ip.extend_from_slice(&udp);
    ip.extend_from_slice(payload);
    ip
}

/// The payload of a complete and valid UDP packet for the client's port; `None` for anything else.
/// `check_udp` is false for packets from a virtual link on the same machine whose checksum was left
/// to hardware offloading and never computed.
pub fn payload(packet: &[u8], check_udp: bool) -> Option<&[u8]> {
    let [first, ..] = *packet else { return None };
    let header_length = usize::from(first & 0xf) * 4;
    let (header, _) = packet.split_at_checked(header_length)?;
    let header_fixed: &[u8; IP] = header.first_chunk()?;
    let &[_, _, len0, len1, _, _, frag0, frag1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        header_fixed;
    let fragment = u16::from_be_bytes([frag0, frag1]) & 0x3fff != 0;
    if first >> 4 != 4 || protocol != PROTOCOL_UDP || fragment || checksum(&[header]) != 0 {
        return None;
    }
    // Ethernet pads short frames: use the length in the header.
    let total = usize::from(u16::from_be_bytes([len0, len1]));
    let datagram = packet.get(header_length..total)?;
    let &[_, _, p0, p1, l0, l1, c0, c1] = datagram.first_chunk::<UDP>()?;
    let length = u16::from_be_bytes([l0, l1]);
    let datagram = datagram.get(..usize::from(length))?;
    if u16::from_be_bytes([p0, p1]) != CLIENT_PORT {
        return None;
    }
    let pseudo = pseudo_header([s0, s1, s2, s3], [d0, d1, d2, d3], length);
    if check_udp && [c0, c1] != [0, 0] && checksum(&[&pseudo, datagram]) != 0 {
        return None;
    }
    datagram.get(UDP..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A broadcast with swapped ports, so that it is for the client.
    fn reply(bytes: &[u8]) -> Vec<u8> {
        let mut frame = broadcast(bytes);
        // Swapping the ports does not change the sum.
        frame[IP..IP + 4].rotate_left(2);
        frame
    }

    proptest! {
        #[test]
        fn a_packet_is_parsed_back(bytes in proptest::collection::vec(any::<u8>(), 0..600), padding in 0usize..40) {
            let mut frame = reply(&bytes);
            frame.resize(frame.len() + padding, 0);
            prop_assert_eq!(payload(&frame, true), Some(&bytes[..]));
        }

        #[test]
        fn a_flipped_bit_is_detected(
            bytes in proptest::collection::vec(any::<u8>(), 1..100), at in 0usize..128, bit in 0u8..8,
        ) {
            let mut frame = reply(&bytes);
            let at = at % frame.len();
            frame[at] ^= 1 << bit;
            // A flip that makes the checksum field zero disables the check.
            prop_assume!(frame[IP + 6..IP + 8] != [0, 0]);
            prop_assert_eq!(payload(&frame, true), None);
        }

        #[test]
        fn parsing_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80), cut in 0usize..80) {
            let _ = payload(&bytes, false);
            let _ = payload(&reply(&bytes)[..cut.min(bytes.len())], false);
        }
    }
}
