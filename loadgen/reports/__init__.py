"""What people and machines read of a run: text, Markdown, HTML, CSV, JUnit, GitHub annotations."""
