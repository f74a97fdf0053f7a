//! Rules for the repository itself: documents name existing tests and files, modules import each
//! other in no circle, the installation without Helm is the chart's. Needs only the files, and Go.

mod circles;
mod documents;
mod files;
mod manifests;
mod quoted_paths;
mod reasons;
