//! The supervisor's answers to `api` and on the control socket.

use api_types::{
    Client, ConfigValue, Event, Explanation, Host, LogLine, Pressure, Problem, Process, Unit,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The request was carried out.
    Ok(Reply),
    /// It was refused, or it failed.
    Refused(Problem),
}

impl From<Result<Reply, Problem>> for Answer {
    fn from(result: Result<Reply, Problem>) -> Answer {
        match result {
            Ok(reply) => Answer::Ok(reply),
            Err(problem) => Answer::Refused(problem),
        }
    }
}

/// A file that was opened in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedFile {
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
}

/// A reply that does not belong to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the supervisor sent a reply to a different request")]
pub struct UnexpectedReply;

/// Defines [`Reply`], and for each variant the conversion into its content.
macro_rules! replies {
    ($($(#[$doc:meta])* $name:ident($content:ty) $($packed:ident)?,)+) => {
        /// The result of a successful request; the request's documentation names the variant.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reply {
            /// Success without a result, or with only the attached file descriptors.
            Done,
            $($(#[$doc])* $name(replies!(@type $($packed)? $content)),)+
        }

        $(impl TryFrom<Reply> for $content {
            type Error = UnexpectedReply;

            fn try_from(reply: Reply) -> Result<$content, UnexpectedReply> {
                match reply {
                    Reply::$name(content) => Ok(replies!(@take $($packed)? content)),
                    _ => Err(UnexpectedReply),
                }
            }
        })+
    };
    (@type boxed $content:ty) => { Box<$content> };
    (@type $content:ty) => { $content };
    (@take boxed $value:ident) => { *$value };
    (@take $value:ident) => { $value };
}

replies! {
    /// Units.
    Units(Vec<Unit>),
    /// A unit.
    Unit(Unit) boxed,
    /// Why a unit is in its state.
    Explanation(Explanation),
    /// Lines of a log.
    Lines(Vec<LogLine>),
    /// The host.
    Host(Host) boxed,
    /// The requesting client.
    Client(Client),
    /// Events, oldest first.
    Events(Vec<Event>),
    /// Processes of the host.
    Processes(Vec<Process>),
    /// For each unit: how long its tasks have waited.
    Pressure(BTreeMap<String, Pressure>),
    /// Settings of the host folder.
    Config(Vec<ConfigValue>),
    /// An opened file; its descriptor is attached to the packet.
    File(OpenedFile),
    /// Text of a file or of the kernel's log.
    Text(String),
    /// Names of directory entries.
    Names(Vec<String>),
    /// A process.
    Pid(i32),
}

impl TryFrom<Reply> for () {
    type Error = UnexpectedReply;

    fn try_from(reply: Reply) -> Result<(), UnexpectedReply> {
        match reply {
            Reply::Done => Ok(()),
            _ => Err(UnexpectedReply),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_types::ErrorCode;

    #[test]
    fn a_reply_to_another_request_is_an_error() {
        let reply = Reply::Unit(Box::new(Unit::new("web")));
        let text = serde_json::to_string(&Answer::Ok(reply.clone())).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), Answer::Ok(reply.clone()));
        assert_eq!(Vec::<Unit>::try_from(reply.clone()), Err(UnexpectedReply));
        assert_eq!(Unit::try_from(reply).unwrap().name, "web");
        assert_eq!(<()>::try_from(Reply::Done), Ok(()));
        assert_eq!(<()>::try_from(Reply::Pid(1)), Err(UnexpectedReply));
    }

    #[test]
    fn a_refusal_keeps_its_code() {
        let refused = Answer::from(Err(Problem::new(ErrorCode::Conflict, "web does not run")));
        let text = serde_json::to_string(&refused).unwrap();
        let expected =
            r#"{"refused":{"code":"conflict","message":"web does not run","details":[]}}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), refused);
    }
}
