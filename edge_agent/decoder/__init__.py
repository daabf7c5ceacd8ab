"""Video through the LGPL FFmpeg that OpenCV's wheels bring along, in a process that can be killed.

`process.Decoder` is this side of it, `__main__` the child. One child per camera or file: a library
that hangs, or falls over what it is fed, takes nothing along but its own stream. What cv2 keeps to
itself is told of each frame: its size, time, interlacing, colours, and whether it is damaged.
Importing this imports nothing.
"""
