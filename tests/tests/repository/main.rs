//! What holds of the repository itself: its documents, and how its modules hang together. Needs
//! nothing but the files.

mod circles;
mod documents;
mod files;
mod quoted_paths;
