//! What holds of the repository itself: its documents. Needs nothing but the files.

mod documents;
mod files;
