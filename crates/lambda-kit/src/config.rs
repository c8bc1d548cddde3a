//! Reads a function's environment into a typed configuration, which [`config!`](macro@crate::config) declares.
//! One sentence names everything that is missing or wrong; nothing is read after init.

use std::fmt;
use std::time::Duration;

/// Every variable that is missing or wrong, in one sentence.
///
/// `Debug` prints the same sentence as `Display`: the runtime prints an error that `main` returns with
/// `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    pub(crate) fn one(problem: String) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the function's environment is not complete: {}", self.0.join(", "))
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigError {}

type Lookup<'a> = Box<dyn Fn(&str) -> Option<String> + 'a>;

/// An environment that collects problems while it is read.
pub struct Env<'a> {
    lookup: Lookup<'a>,
    problems: Vec<String>,
}

impl<'a> Env<'a> {
    pub fn process() -> Self {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Another source of variables, for tests.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String> + 'a) -> Self {
        Self { lookup: Box::new(lookup), problems: Vec::new() }
    }

    /// Reads the variable `name`.
    pub fn read<T: FromVariable>(&mut self, name: &str) -> T {
        T::read(self, name)
    }

    /// A variable that is set and not empty.
    fn text(&mut self, name: &str) -> String {
        match (self.lookup)(name).filter(|value| !value.is_empty()) {
            Some(value) => value,
            None => {
                self.problems.push(format!("{name} is missing"));
                String::new()
            }
        }
    }

    fn seconds(&mut self, name: &str) -> Duration {
        let text = self.text(name);
        match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => {
                if !text.is_empty() {
                    self.problems.push(format!("{name} is not a whole number of seconds (it is {text:?})"));
                }
                Duration::ZERO
            }
        }
    }

    /// Returns `config` if all variables that were read are valid.
    ///
    /// # Errors
    /// One sentence that names all of them.
    pub fn finish<T>(self, config: T) -> Result<T, ConfigError> {
        if self.problems.is_empty() { Ok(config) } else { Err(ConfigError(self.problems)) }
    }
}

/// A type of configuration. `read` records a variable that is missing or wrong in `env`.
pub trait FromVariable {
    fn read(env: &mut Env<'_>, name: &str) -> Self;
}

impl FromVariable for String {
    fn read(env: &mut Env<'_>, name: &str) -> Self {
        env.text(name)
    }
}

impl FromVariable for Duration {
    fn read(env: &mut Env<'_>, name: &str) -> Self {
        env.seconds(name)
    }
}

/// Declares the configuration of a function: the struct `Config`, and `Config::from_env`, which reads each
/// field from its variable. A `String` must not be empty; a `Duration` is a whole number of seconds.
///
/// ```
/// lambda_kit::config! {
///     contracts_table: String = "CONTRACTS_TABLE",
///     keep_token: std::time::Duration = "KEEP_TOKEN_SECONDS",
/// }
/// let error = Config::from_env().err().map(|error| error.to_string());
/// assert!(error.is_some_and(|error| error.contains("CONTRACTS_TABLE is missing, KEEP_TOKEN_SECONDS")));
/// ```
#[macro_export]
macro_rules! config {
    ($($field:ident: $type:ty = $variable:literal),+ $(,)?) => {
        struct Config {
            $($field: $type),+
        }

        impl Config {
            fn from_env() -> Result<Self, $crate::config::ConfigError> {
                let mut env = $crate::config::Env::process();
                let config = Self { $($field: env.read($variable)),+ };
                env.finish(config)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_and_wrong_variable_is_named_in_one_sentence() {
        let mut env = Env::from_lookup(|name| (name == "WAIT").then(|| "soon".to_owned()));
        let config: (String, String, Duration) = (env.read("TABLE"), env.read("QUEUE"), env.read("WAIT"));
        let sentence = env.finish(config).unwrap_err().to_string();
        assert_eq!(
            sentence,
            "the function's environment is not complete: TABLE is missing, QUEUE is missing, \
             WAIT is not a whole number of seconds (it is \"soon\")"
        );
    }

    #[test]
    fn a_complete_environment_gives_the_configuration() {
        let mut env = Env::from_lookup(|_| Some("30".to_owned()));
        let config = (env.read("TABLE"), env.read("WAIT"));
        assert_eq!(env.finish(config), Ok(("30".to_owned(), Duration::from_secs(30))));
    }
}
