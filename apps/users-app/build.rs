//! A new migration is a reason to compile anew.
fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
