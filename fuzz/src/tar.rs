//! Tar streams.

/// Placeholder of a header's checksum, which is replaced by the right one before decoding. Without this
/// a fuzzer would rarely get past the checksum.
pub const SUM: &[u8; 8] = b"checksum";

const BLOCK: usize = 512;
const SUM_AT: std::ops::Range<usize> = 148..156;

/// Replaces all placeholders by the right checksums.
pub fn seal(stream: &mut [u8]) {
    for block in stream.chunks_exact_mut(BLOCK) {
        if block[SUM_AT] != *SUM {
            continue;
        }
        block[SUM_AT].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[SUM_AT].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// Header and content of a regular file.
pub fn member(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0u8; BLOCK];
    let name = name.as_bytes();
    let length = name.len().min(100);
    header[..length].copy_from_slice(&name[..length]);
    header[100..107].copy_from_slice(b"0000644");
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[136..147].copy_from_slice(b"00000000000");
    header[SUM_AT].copy_from_slice(SUM);
    header[156] = b'0';
    header.extend_from_slice(content);
    header.resize(header.len().next_multiple_of(BLOCK), 0);
    header
}
