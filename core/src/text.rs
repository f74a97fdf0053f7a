//! Texts from a pod's author, before they reach the store: Postgres takes no NUL, and no console
//! shows the others.

/// The first control character of a text.
pub fn find_control(text: &str) -> Option<char> {
    text.chars().find(|c| c.is_control())
}
