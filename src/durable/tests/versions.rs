//! Files of each format version are kept in `tests/data/durable/`: every later version opens them.

use std::path::PathBuf;

use super::*;
use crate::durable::Directory;

fn folder(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/durable/v{version}"))
}

fn fill<F: Files>(lane: &mut Lane<F>) {
    for number in 0..5_u8 {
        publish(lane, "news", &[b'a' + number; 10], 1_000);
        publish(lane, "other", &[b'A' + number; 10], 1_000);
    }
    lane.remove_history("other", 1_001).expect("it is staged");
    lane.commit().expect("it is written");
}

#[test]
#[ignore = "it makes the files of this format version"]
fn files_of_this_version_are_made() {
    let path = folder(crate::durable::format::FORMAT);
    let small = LaneOptions { segment_bytes: 8 << 10, ..options(1) };
    let (mut lane, _) = Lane::open(Directory::new(&path).expect("it can be made"), small, 1_000).expect("it opens");
    fill(&mut lane);
    lane.close(1_002).expect("closed");
    std::fs::remove_file(path.join("LOCK")).expect("it is there");
}

#[test]
fn files_of_every_version_are_opened() {
    for version in 1..=crate::durable::format::FORMAT {
        let disk = SimDisk::default();
        for entry in std::fs::read_dir(folder(version)).expect("the files of this version are kept") {
            let entry = entry.expect("readable");
            let name = entry.file_name().into_string().expect("a name");
            disk.set_content(&name, std::fs::read(entry.path()).expect("readable"));
        }
        let (mut lane, report) = open(&disk, 1, 1_100);
        assert!(report.quarantined.is_empty() && report.channels == 2, "{report:?}");
        let expected: Vec<_> = (0..5_u8).map(|number| (u64::from(number) + 1, vec![b'a' + number; 10])).collect();
        assert_eq!(all(&mut lane, "news", 1_100), expected);
        assert_eq!((all(&mut lane, "other", 1_100).len(), lane.position("other", &HISTORY, 1_100).offset), (0, 5));
    }
}
