"""kurabe human"""
