//! The README shows the example's code.

#[test]
fn the_first_program_is_the_example() {
    let example = include_str!("../examples/counter.rs");
    let program: Vec<&str> =
        example.lines().skip_while(|line| line.starts_with("//!") || line.is_empty()).collect();
    assert!(program.len() > 30);
    assert!(include_str!("../README.md").contains(&program.join("\n")), "change both, or neither");
}
