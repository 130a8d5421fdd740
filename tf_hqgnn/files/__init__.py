"""How files are written so that a power cut, a full disk or a second writer leaves nothing half done."""
