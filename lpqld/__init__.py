"""The library: images, views, labels, codecs, teachers, students."""
