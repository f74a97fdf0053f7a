//! Loading of the configuration file at the start of a server.

use std::io;
use std::path::{Path, PathBuf};
use waygate_core::config::{Config, Errors};

/// Reason that a server cannot start with a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The file has errors; all are in the message, since an operator may see only its first line.
    #[error("{}: {_1}", _0.display())]
    Wrong(PathBuf, Errors),
}

/// Reads and checks a configuration file; warnings go to the log.
pub fn load(file: &Path) -> Result<Config, Error> {
    let text =
        std::fs::read_to_string(file).map_err(|error| Error::File(file.to_owned(), error))?;
    let (config, warnings) =
        Config::from_yaml(&text).map_err(|errors| Error::Wrong(file.to_owned(), errors))?;
    for warning in warnings {
        tracing::warn!(config.file = %file.display(), config.path = warning.path, %warning, "configuration warning");
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_named_with_the_cause() {
        let error = load(Path::new("/nowhere/config.yaml")).unwrap_err();
        let message = waygate_core::error::error_chain(&error);
        assert!(message.starts_with("cannot read /nowhere/config.yaml: No such file"), "{message}");
    }

    #[test]
    fn errors_in_a_file_are_reported_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, "{clusterId: a, regionID: cn-hangzhou, vpcID: vpc-1}").unwrap();
        let message = load(&file).unwrap_err().to_string();
        assert!(
            message.starts_with(&file.display().to_string())
                && message.contains("did you mean clusterID?"),
            "{message}"
        );
    }
}
