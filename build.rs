//! Turns the `.proto` files into Rust, with a compiler that is Rust itself: a build needs no `protoc`.

use std::error::Error;
use std::path::Path;

use tonic_prost_build::Builder;

fn main() -> Result<(), Box<dyn Error>> {
    let builder = tonic_prost_build::configure;
    // The server's side is for tests, and for a backend written in Rust.
    compile("src/backend/proxy.proto", builder().btree_map("."))?;
    // Payloads stay where they were read; tags are sorted, as the shards want them.
    compile("src/api/grpc/api.proto", builder().build_transport(false).bytes(".").btree_map("."))
}

fn compile(file: &str, builder: Builder) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={file}");
    let folder = Path::new(file).parent().ok_or("the file has a folder")?;
    Ok(builder.compile_fds(protox::compile([file], [folder])?)?)
}
