//! Rules for the repository itself: documents name existing tests and files, modules import each
//! other in no circle. Needs only the files.

mod circles;
mod documents;
mod files;
mod quoted_paths;
mod reasons;
