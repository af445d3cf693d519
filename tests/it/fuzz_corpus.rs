//! Inputs that the fuzzer kept (`tools/fuzz/corpus`), run through the same functions as they are and damaged at random,
//! on the stable compiler in every test run. The test prints its seed; `CORECAST_SEED=n` repeats a run.

use std::path::Path;

use crate::fuzz;

const DAMAGED: usize = 20;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

fn damaged(input: &[u8], others: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..=bytes.len());
        match random.u8(..4) {
            0 => bytes.insert(at, random.u8(..)),
            1 => bytes.truncate(at),
            2 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            _ => bytes.extend_from_slice(&others[random.usize(..others.len())]),
        }
    }
    bytes.truncate(4096);
    bytes
}

#[test]
fn corpus_inputs_pass_whole_and_damaged() {
    let seed =
        std::env::var("CORECAST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for (name, target) in fuzz::TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for input in &inputs {
            target(input);
            for _ in 0..DAMAGED {
                target(&damaged(input, &inputs, &mut random));
            }
        }
    }
    assert!(fuzz::target("upgrade").is_some() && fuzz::target("none").is_none());
}
