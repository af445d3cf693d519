//! Deltas of the JavaScript library that clients use, invalid deltas, and properties of the created deltas.

use super::*;

const MAX: usize = 1 << 20;

/// Source, target, and the delta of the JavaScript library.
const VECTORS: &[(&str, &str, &[u8])] = &[
    ("", "", b"0\n0:0;"),
    ("", "abc", b"3\n3:abc1XObC0;"),
    ("0123456789abcdef0123456789abcdef", "0123456789abcdefXX0123456789abcdef", b"Y\nG@0,2:XXG@0,27Znxq;"),
    (
        r#"{"price":101.25,"volume":120034,"name":"Example Incorporated","currency":"USD","open":true}"#,
        r#"{"price":101.50,"volume":120997,"name":"Example Incorporated","currency":"USD","open":true}"#,
        b"1R\nD@0,2:50D@F,3:997x@V,zMVHw;",
    ),
    (
        "the quick brown fox jumps over the lazy dog, and the lazy dog sleeps on",
        "and the lazy dog sleeps on; the quick brown fox jumps over the lazy dog",
        b"17\nQ@i,2:; g@0,3lAjBW;",
    ),
    // This delta cuts a character in two.
    (
        "\"übermäßige Größe: ein längerer Text mit Umlauten, ä ö ü\"",
        "\"übermäßige Größe: ein längerer Text mit Umlauten, ö ö ü\"",
        b"12\nv@0,8:\xb6 \xc3\xb6 \xc3\xbc\"2r_9iM;",
    ),
];

fn created(source: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    let shorter = create(source, target, &mut out);
    let delta = out.split_off(6);
    assert_eq!(out, b"before");
    assert_eq!(shorter, !delta.is_empty());
    assert!(delta.len() < target.len() || !shorter);
    shorter.then_some(delta)
}

#[test]
fn deltas_of_the_javascript_library_are_applied() {
    for (source, target, delta) in VECTORS {
        assert_eq!(apply(source.as_bytes(), delta, MAX).as_deref(), Ok(target.as_bytes()));
    }
}

#[test]
fn deltas_are_as_short_as_those_of_the_javascript_library() {
    for (source, target, theirs) in VECTORS {
        let ours = created(source.as_bytes(), target.as_bytes());
        let length = ours.as_ref().map_or(target.len(), Vec::len);
        assert!(length <= theirs.len() + 2, "{target}: {length} for {}", theirs.len());
        if let Some(ours) = ours {
            assert_eq!(apply(source.as_bytes(), &ours, MAX).as_deref(), Ok(target.as_bytes()));
        }
    }
}

#[test]
fn deltas_that_are_invalid_are_refused_with_the_reason() {
    let source = b"0123456789";
    for (delta, fault) in [
        (&b""[..], InvalidDelta::Length),
        (b"4", InvalidDelta::Length),
        (b"\n", InvalidDelta::Number),
        (b"~~~~~~\n", InvalidDelta::Number),
        (b"4 4@0,", InvalidDelta::Command),
        (b"4\n4@0,", InvalidDelta::Length),
        (b"4\n4@0;", InvalidDelta::Command),
        (b"4\n4!0,", InvalidDelta::Command),
        (b"4\n@0,", InvalidDelta::Number),
        (b"B\nB@0,0;", InvalidDelta::Range),
        (b"4\n4@3~~~~~,0;", InvalidDelta::Range),
        (b"4\n4:abc", InvalidDelta::Range),
        (b"4\n5@0,0;", InvalidDelta::Size),
        (b"4\n3:abc0;", InvalidDelta::Size),
        (b"3~~~~~\n0;", InvalidDelta::Size),
        (b"3\n3:abc1XObC1;", InvalidDelta::Checksum),
        (b"3\n3:abc1XObC0;0;", InvalidDelta::Length),
    ] {
        assert_eq!(apply(source, delta, MAX), Err(fault), "{}", delta.escape_ascii());
    }
    assert_eq!(apply(b"", b"3\n3:abc1XObC0;", 2), Err(InvalidDelta::Size));
}

#[test]
fn delta_cut_at_any_byte_is_refused() {
    for (source, _, delta) in VECTORS {
        for end in 0..delta.len() {
            assert!(apply(source.as_bytes(), &delta[..end], MAX).is_err());
        }
    }
}

#[test]
fn delta_reproduces_the_target_after_any_change() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..2_000 {
        let letters = [2, 30, 256][random.usize(..3)];
        let source: Vec<u8> = (0..random.usize(..1_000)).map(|_| random.u32(..letters) as u8).collect();
        let mut target = Vec::new();
        for _ in 0..random.usize(..6) {
            if random.bool() {
                let from = random.usize(..=source.len());
                target.extend_from_slice(&source[from..random.usize(from..=source.len())]);
            } else {
                target.extend((0..random.usize(..40)).map(|_| random.u32(..letters) as u8));
            }
        }
        if let Some(mut delta) = created(&source, &target) {
            assert_eq!(apply(&source, &delta, MAX).as_ref(), Ok(&target));
            let at = random.usize(..delta.len());
            delta[at] ^= 1 << random.u32(..8);
            _ = apply(&source, &delta, MAX);
        }
    }
}

#[test]
fn delta_between_texts_is_text() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let letters = ['a', 'ä', 'ö', 'Ö', '語', '誠', '😀', '😁'];
    for _ in 0..2_000 {
        let source: String = (0..random.usize(..200)).map(|_| letters[random.usize(..letters.len())]).collect();
        let change = |c| if random.u8(..20) == 0 { letters[random.usize(..letters.len())] } else { c };
        let target: String = source.chars().map(change).collect();
        if let Some(delta) = created(source.as_bytes(), target.as_bytes()) {
            assert!(std::str::from_utf8(&delta).is_ok());
            assert_eq!(apply(source.as_bytes(), &delta, MAX).as_deref(), Ok(target.as_bytes()));
        }
    }
}
