//! Requests to the supervisor and its answers, one JSON object a line.
