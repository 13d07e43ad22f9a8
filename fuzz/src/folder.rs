//! Several documents in one input.

use image::oci::Digest;

/// Begins a document; its name follows on the same line.
const MARK: &str = "--- ";

/// Reads a sequence of `--- NAME`, newline, content. In names and contents `{N}` stands for the hex digest
/// of the N-th document (from 0) and `[N]` for its length, if it precedes them: a fuzzer cannot guess a
/// digest.
pub fn documents(data: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut documents: Vec<(String, Vec<u8>)> = Vec::new();
    for part in split(data) {
        let end = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
        let (name, content) = part.split_at(end);
        let content = content.get(1..).unwrap_or_default();
        let filled = fill(content, &documents);
        documents.push((String::new(), filled));
        let name = fill(name, &documents);
        if let Some(last) = documents.last_mut() {
            last.0 = String::from_utf8_lossy(&name).into_owned();
        }
    }
    documents
}

/// The parts that begin with a marker at the start of a line, without the marker.
fn split(data: &[u8]) -> Vec<&[u8]> {
    let mark = MARK.as_bytes();
    let starts: Vec<usize> = (0..data.len())
        .filter(|at| data[*at..].starts_with(mark) && (*at == 0 || data[*at - 1] == b'\n'))
        .take(12)
        .collect();
    let ends = starts.iter().skip(1).map(|start| start - 1).chain([data.len()]);
    starts.iter().zip(ends).map(|(start, end)| &data[start + mark.len()..end]).collect()
}

fn fill(text: &[u8], documents: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut filled = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let known = |digit: &u8| documents.get(usize::from(digit.wrapping_sub(b'0')));
        match rest {
            [b'{', digit, b'}', after @ ..] if let Some((_, content)) = known(digit) => {
                filled.extend_from_slice(Digest::of(content).hex().as_bytes());
                rest = after;
            }
            [b'[', digit, b']', after @ ..] if let Some((_, content)) = known(digit) => {
                filled.extend_from_slice(content.len().to_string().as_bytes());
                rest = after;
            }
            _ => {
                filled.push(*first);
                rest = after;
            }
        }
    }
    filled
}
