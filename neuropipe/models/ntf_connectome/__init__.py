"""NTF connectome: functional communities that come and go over time and differ over animals."""
