//! What filters match, which filters are refused, and that both encodings agree.

use super::super::filter::*;
use super::super::tags::Tags;
use super::*;

/// The same filter in Protobuf.
fn message(node: &serde_json::Value) -> Vec<u8> {
    let mut out = Vec::new();
    let mut field = |number: u32, bytes: &[u8]| {
        prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut out);
        prost::encode_length_delimiter(bytes.len(), &mut out).expect("room");
        out.extend_from_slice(bytes);
    };
    for (number, name) in [(1, "op"), (2, "key"), (3, "cmp"), (4, "val")] {
        if let Some(text) = node[name].as_str() {
            field(number, text.as_bytes());
        }
    }
    for value in node["vals"].as_array().into_iter().flatten() {
        field(5, value.as_str().expect("text").as_bytes());
    }
    for child in node["nodes"].as_array().into_iter().flatten() {
        field(6, &message(child));
    }
    out
}

fn parsed(text: &str) -> Result<Filter, FilterError> {
    let read = RawFilter::Json(text.as_bytes()).filter().map(|filter| filter.expect("there is one"));
    if let Ok(value) = serde_json::from_str(text) {
        let bytes = message(&value);
        let other = RawFilter::Protobuf(&bytes).filter().map(|filter| filter.expect("there is one"));
        assert_eq!(read, other, "{text}");
    }
    read
}

fn matches(filter: &str, tags: &[(&str, &str)]) -> bool {
    let mut bytes = Vec::new();
    Tags::write(&mut bytes, tags.iter().copied());
    parsed(filter).unwrap_or_else(|error| panic!("{error:?}: {filter}")).matches(Tags::from_bytes(&bytes))
}

#[test]
fn filter_leaves_test_one_tag() {
    // A filter, values of the tag that match, and values that do not. `None` is a missing tag.
    type Case = (&'static str, &'static [Option<&'static str>], &'static [Option<&'static str>]);
    let cases: &[Case] = &[
        (r#"{"key":"k","cmp":"eq","val":"a"}"#, &[Some("a")], &[Some("A"), Some(""), None]),
        (r#"{"key":"k","cmp":"neq","val":"a"}"#, &[Some("A"), Some(""), None], &[Some("a")]),
        (r#"{"key":"k","cmp":"in","vals":["a","b"]}"#, &[Some("a"), Some("b")], &[Some("c"), Some(""), None]),
        (r#"{"key":"k","cmp":"in","vals":["a",""]}"#, &[Some("a"), Some(""), None], &[Some("c")]),
        (r#"{"key":"k","cmp":"nin","vals":["a","b"]}"#, &[Some("c"), Some(""), None], &[Some("a"), Some("b")]),
        (r#"{"key":"k","cmp":"nin","vals":[""]}"#, &[Some("c")], &[Some(""), None]),
        (r#"{"key":"k","cmp":"ex"}"#, &[Some("a"), Some("")], &[None]),
        (r#"{"key":"k","cmp":"nex"}"#, &[None], &[Some("a"), Some("")]),
        (r#"{"cmp":"nex"}"#, &[None, Some("a")], &[]),
        (r#"{"key":"k","cmp":"sw","val":"ab"}"#, &[Some("ab"), Some("abc")], &[Some("a"), Some("cab"), None]),
        (r#"{"key":"k","cmp":"ew","val":"ab"}"#, &[Some("ab"), Some("cab")], &[Some("b"), Some("abc"), None]),
        (r#"{"key":"k","cmp":"ct","val":"ab"}"#, &[Some("ab"), Some("cabc")], &[Some("ba"), None]),
        (
            r#"{"key":"k","cmp":"lt","val":"10"}"#,
            &[Some("9.99"), Some("-11")],
            &[Some("10"), Some("10.0"), Some("x"), None],
        ),
        (r#"{"key":"k","cmp":"lte","val":"10"}"#, &[Some("9"), Some("10.00")], &[Some("10.01"), Some(""), None]),
        (
            r#"{"key":"k","cmp":"gt","val":"10"}"#,
            &[Some("10.1"), Some("+100")],
            &[Some("10"), Some("9"), Some("1e3"), None],
        ),
        (r#"{"key":"k","cmp":"gte","val":"-0.5"}"#, &[Some("-0.50"), Some("0")], &[Some("-0.51"), None]),
        (r#"{"key":"k","cmp":"gt","val":"ten"}"#, &[], &[Some("11"), Some("zebra"), None]),
    ];
    for (filter, with, without) in cases {
        for (values, expected) in [(with, true), (without, false)] {
            for value in *values {
                let tags: Vec<_> = value.iter().map(|value| ("k", *value)).chain([("other", "a")]).collect();
                assert_eq!(matches(filter, &tags), expected, "{filter} {value:?}");
            }
        }
    }
}

#[test]
fn filter_nodes_combine() {
    let a = r#"{"key":"a","cmp":"ex"}"#;
    let b = r#"{"key":"b","cmp":"eq","val":"1"}"#;
    let and = format!(r#"{{"op":"and","nodes":[{a},{b}]}}"#);
    let or = format!(r#"{{"op":"or","nodes":[{a},{b}]}}"#);
    let not = format!(r#"{{"op":"not","nodes":[{or}]}}"#);
    for (tags, expected) in [
        (&[][..], [false, false, true]),
        (&[("a", "")], [false, true, false]),
        (&[("b", "1")], [false, true, false]),
        (&[("b", "2")], [false, false, true]),
        (&[("a", "x"), ("b", "1")], [true, true, false]),
    ] {
        assert_eq!([&and, &or, &not].map(|filter| matches(filter, tags)), expected, "{tags:?}");
    }
    assert_ne!(parsed(&and), parsed(&or));
    assert_eq!(parsed(&and), parsed(&and.replace(':', " : ")));
}

#[test]
fn filter_fields_that_a_node_does_not_use_are_ignored() {
    for filter in [
        r#"{"key":"a","cmp":"ex","nodes":[{"op":"bad"}]}"#,
        r#"{"op":"and","key":"x","cmp":"zzz","val":"v","vals":["1"],"nodes":[{"key":"a","cmp":"ex"}]}"#,
        r#"{"op":"","key":"a","cmp":"ex","val":"","vals":[],"nodes":[]}"#,
    ] {
        assert!(matches(filter, &[("a", "")]), "{filter}");
    }
    let nulls = br#"{"op":null,"key":"a","cmp":"ex","val":null,"vals":null,"nodes":null,"new":{"a":[1]}}"#;
    assert!(matches!(RawFilter::Json(nulls).filter(), Ok(Some(_))));
}

#[test]
fn filters_without_a_meaning_are_invalid() {
    for fault in [
        r#"{}"#,
        r#"{"key":"k"}"#,
        r#"{"key":"k","val":"v"}"#,
        r#"{"key":"k","cmp":"EQ","val":"v"}"#,
        r#"{"key":"k","cmp":"like","val":"v"}"#,
        r#"{"key":"k","cmp":"eq"}"#,
        r#"{"key":"k","cmp":"eq","val":""}"#,
        r#"{"key":"k","cmp":"eq","val":"v","vals":["v"]}"#,
        r#"{"key":"k","cmp":"in","val":"v"}"#,
        r#"{"key":"k","cmp":"in","vals":[]}"#,
        r#"{"key":"k","cmp":"nin","vals":["v"],"val":"v"}"#,
        r#"{"key":"k","cmp":"ex","val":"v"}"#,
        r#"{"key":"k","cmp":"nex","vals":["v"]}"#,
        r#"{"key":"k","cmp":"gt"}"#,
        r#"{"cmp":"eq","val":"v"}"#,
        r#"{"cmp":"in","vals":["v"]}"#,
        r#"{"op":"xor","nodes":[{"key":"k","cmp":"ex"}]}"#,
        r#"{"op":"and"}"#,
        r#"{"op":"or","nodes":[]}"#,
        r#"{"op":"and","nodes":[{"key":"k","cmp":"ex"},{"key":"k"}]}"#,
        r#"{"op":"not"}"#,
        r#"{"op":"not","nodes":[{"key":"k"}]}"#,
        r#"{"op":"not","nodes":[{"key":"k","cmp":"ex"},{"key":"k","cmp":"ex"}]}"#,
    ] {
        assert_eq!(parsed(fault), Err(FilterError::Invalid), "{fault}");
    }
    assert_eq!(RawFilter::Json(br#"{"op":"and","nodes":[null]}"#).filter(), Err(FilterError::Invalid));
    assert_eq!(
        RawFilter::Protobuf(b"").filter(),
        Err(FilterError::Invalid),
        "a message without fields is a filter, and invalid"
    );
    assert_eq!(RawFilter::default().filter(), Ok(None));
}

#[test]
fn filter_fields_of_other_types_are_malformed() {
    for fault in [
        r#"[]"#,
        r#"{"op":1}"#,
        r#"{"key":["k"],"cmp":"ex"}"#,
        r#"{"key":"k","cmp":"in","vals":"v"}"#,
        r#"{"key":"k","cmp":"in","vals":[1]}"#,
        r#"{"op":"and","nodes":{}}"#,
        r#"{"op":"and","nodes":[1]}"#,
        r#"{"op":"and","nodes":[[]]}"#,
        r#"{"key":"k","key":"k","cmp":"ex"}"#,
        r#"{"key":"k","cmp":"ex"} x"#,
    ] {
        assert_eq!(RawFilter::Json(fault.as_bytes()).filter(), Err(FilterError::Malformed), "{fault}");
    }
    for fault in [&[0x08, 1][..], &[0x0a, 1, 0xff], &[0x2a, 1, 0xff], &[0x30, 1], &[0x32, 2, 0x10, 1], &[0x32, 9]] {
        assert_eq!(RawFilter::Protobuf(fault).filter(), Err(FilterError::Malformed), "{fault:02x?}");
    }
}

#[test]
fn filters_past_a_limit_are_invalid() {
    let leaf = r#"{"key":"k","cmp":"ex"}"#;
    let nested =
        |depth: u32| (1..depth).fold(leaf.to_owned(), |inner, _| format!(r#"{{"op":"not","nodes":[{inner}]}}"#));
    assert!(parsed(&nested(FILTER_DEPTH_MAX)).is_ok());
    assert_eq!(parsed(&nested(FILTER_DEPTH_MAX + 1)), Err(FilterError::Invalid));

    let wide = |nodes: u32| format!(r#"{{"op":"or","nodes":[{}]}}"#, vec![leaf; nodes as usize - 1].join(","));
    assert!(parsed(&wide(FILTER_NODES_MAX)).is_ok());
    assert_eq!(parsed(&wide(FILTER_NODES_MAX + 1)), Err(FilterError::Invalid));

    let listed =
        |values: u32| format!(r#"{{"key":"k","cmp":"in","vals":[{}]}}"#, vec![r#""v""#; values as usize].join(","));
    assert!(parsed(&listed(FILTER_VALUES_MAX)).is_ok());
    assert_eq!(parsed(&listed(FILTER_VALUES_MAX + 1)), Err(FilterError::Invalid));

    let long = |bytes: usize| format!(r#"{{"key":"k","cmp":"eq","val":"{}"}}"#, "v".repeat(bytes));
    let frame = long(0).len();
    assert!(parsed(&long(FILTER_BYTES_MAX - frame)).is_ok());
    assert_eq!(RawFilter::Json(long(FILTER_BYTES_MAX - frame + 1).as_bytes()).filter(), Err(FilterError::Invalid));
    for open in [r#"{"nodes":["#, r#"{"new":["#] {
        let deep = open.repeat(FILTER_BYTES_MAX / open.len());
        assert!(RawFilter::Json(deep.as_bytes()).filter().is_err());
    }
}

#[test]
fn filters_that_are_cut_or_damaged_do_not_panic() {
    let text = r#"{"op":"and","nodes":[{"key":"k","cmp":"in","vals":["a","b"]},{"op":"not","nodes":[{"key":"k","cmp":"lt","val":"é"}]}]}"#;
    assert!(parsed(text).is_ok());
    for end in 1..text.len() {
        assert_eq!(RawFilter::Json(&text.as_bytes()[..end]).filter(), Err(FilterError::Malformed), "{end}");
    }
    let bytes = message(&serde_json::from_str(text).expect("valid"));
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..10_000 {
        let mut damaged = bytes[..random.usize(..=bytes.len())].to_vec();
        for _ in 0..random.usize(..4).min(damaged.len()) {
            let at = random.usize(..damaged.len());
            damaged[at] = random.u8(..);
        }
        if let Ok(Some(filter)) = RawFilter::Protobuf(&damaged).filter() {
            filter.matches(Tags::default());
        }
    }
}
