#![doc = "Not written yet."]
